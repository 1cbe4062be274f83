//! Waiting for a state of the outside world, with a deadline.
//!
//! Daemons, sockets and kernels have no notification we could await from here, so the state is probed, often at first
//! and then a little slower. Real processes need the real clock: this file is the testbed's only use of it.
#![allow(clippy::disallowed_methods, reason = "real daemons run on the real clock")]

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Probes until `probe` gives a value; says what was waited for and the last reason against it when time runs out.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(reason) if begin.elapsed() >= limit => {
                bail!("waited {} s for {what}: {reason:#}", limit.as_secs())
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}

/// [`until`] for a yes-or-no question.
pub fn until_true(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || if probe() { Ok(()) } else { bail!("it is not so") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_ends_the_wait() {
        let mut left = 3;
        let value = until("a countdown", Duration::from_secs(5), || {
            left -= 1;
            if left == 0 { Ok("done") } else { bail!("{left} to go") }
        });
        assert_eq!(value.unwrap(), "done");
    }

    #[test]
    fn a_missed_deadline_names_the_thing_and_the_last_reason() {
        let error = until::<()>("the moon", Duration::ZERO, || bail!("still dark")).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for the moon: still dark");
    }
}
