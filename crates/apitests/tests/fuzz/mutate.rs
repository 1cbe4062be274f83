//! From good inputs to bad ones: the changes that past bugs were made of.

use remuda_runtime::Random;

/// Longer inputs only cost time: what depends on size is tested with sizes.
const MAX_LENGTH: usize = 4096;

/// One input, a few changes away from the corpus.
pub fn mutate(random: &Random, corpus: &[&[u8]], words: &[&str]) -> Vec<u8> {
    let mut input = pick(random, corpus).to_vec();
    for _ in 0..=random.below(6) {
        change(random, &mut input, corpus, words);
        input.truncate(MAX_LENGTH);
    }
    input
}

fn change(random: &Random, input: &mut Vec<u8>, corpus: &[&[u8]], words: &[&str]) {
    let (begin, end) = range(random, input.len());
    match random.below(9) {
        0 => input.drain(begin..end).for_each(drop),
        1 => input.iter_mut().skip(begin).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        2 => input.iter_mut().skip(begin).take(1).for_each(|byte| *byte = random.below(256) as u8),
        3 => insert(input, begin, pick(random, words).as_bytes()),
        4 => {
            let part = input[begin..end].to_vec();
            insert(input, begin, &part);
        }
        // Depth: the same opening many times over.
        5 => insert(input, begin, &pick(random, words).as_bytes().repeat(random.below(300) as usize)),
        6 => {
            let other = pick(random, corpus);
            let (from, to) = range(random, other.len());
            insert(input, begin, &other[from..to]);
        }
        7 => insert(input, begin, &[0x00, 0x7f, 0x80, 0xc3, 0xff, 0xfe][..random.below(7) as usize]),
        _ => input.splice(begin..end, pick(random, words).bytes()).for_each(drop),
    }
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied()).for_each(drop);
}

fn range(random: &Random, length: usize) -> (usize, usize) {
    let one = random.below(length as u64 + 1) as usize;
    let two = random.below(length as u64 + 1) as usize;
    (one.min(two), one.max(two))
}

fn pick<T: Copy>(random: &Random, choices: &[T]) -> T {
    choices[random.below(choices.len() as u64) as usize]
}
