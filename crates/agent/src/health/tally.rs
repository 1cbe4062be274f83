//! Answers of one container in a row become a vote: so many passes to go up, so many failures to go down. The first
//! answer of all decides at once, as HAProxy has it.

/// What the last answers came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The vote; `None` before the first answer.
    pub up: Option<bool>,
    /// Answers in a row that speak against it.
    against: u32,
}

impl Tally {
    /// Begins with a vote that was cast before.
    pub fn from(up: Option<bool>) -> Tally {
        Tally { up, against: 0 }
    }

    /// One more answer; gives the vote when it changes.
    pub fn take(&mut self, passed: bool, rise: u32, fall: u32) -> Option<bool> {
        let needed = match self.up {
            None => 0,
            Some(up) if up == passed => {
                self.against = 0;
                return None;
            }
            Some(true) => fall,
            Some(false) => rise,
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        *self = Tally::from(Some(passed));
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_a_row_decide() {
        /// `+` passes, `-` fails; the vote after each answer that changes it, with the answer's place.
        fn check(rise: u32, fall: u32, before: Option<bool>, answers: &str, votes: &[(usize, bool)]) {
            let mut tally = Tally::from(before);
            let found: Vec<(usize, bool)> = answers
                .chars()
                .enumerate()
                .filter_map(|(at, answer)| Some((at, tally.take(answer == '+', rise, fall)?)))
                .collect();
            assert_eq!(found, votes, "{answers}");
        }
        check(2, 3, None, "+++", &[(0, true)]);
        check(2, 3, None, "-+-++", &[(0, false), (4, true)]);
        check(2, 3, None, "+--+---", &[(0, true), (6, false)]);
        check(1, 1, None, "+-+", &[(0, true), (1, false), (2, true)]);
        check(2, 3, Some(true), "--+", &[]);
        check(2, 3, Some(true), "---", &[(2, false)]);
        check(2, 3, Some(false), "-+", &[]);
    }
}
