//! A command line as words: spaces, quotes, backslashes, `#` comments. No variables, globs or operators
//! (`compose.md` §4).

/// A quote that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclosed(pub char);

/// Splits as a shell splits words.
pub fn split(line: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => return Err(Unclosed('\'')),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('\\') => match letters.next() {
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                            Some('\n') => {}
                            Some(other) => {
                                word.push('\\');
                                word.push(other);
                            }
                            None => return Err(Unclosed('"')),
                        },
                        Some(inner) => word.push(inner),
                        None => return Err(Unclosed('"')),
                    }
                }
            }
            '\\' => {
                if let Some(escaped) = letters.next() {
                    word.get_or_insert_default().push(escaped);
                }
            }
            '#' if word.is_none() => while letters.next_if(|letter| *letter != '\n').is_some() {},
            space if space.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_shell_sees_them() {
        let cases: [(&str, &[&str]); 8] = [
            ("/bin/sh -c", &["/bin/sh", "-c"]),
            ("a 'b c' \"d \\\" e\"", &["a", "b c", "d \" e"]),
            ("a\\ b c''d", &["a b", "cd"]),
            ("x '' y", &["x", "", "y"]),
            ("run # not this", &["run"]),
            ("run a#b", &["run", "a#b"]),
            ("echo $HOME; ls *", &["echo", "$HOME;", "ls", "*"]),
            ("  ", &[]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
        assert_eq!(split("'a"), Err(Unclosed('\'')));
        assert_eq!(split("\"a\\"), Err(Unclosed('"')));
    }
}
