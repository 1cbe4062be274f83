//! Slots: which number a testbed has, and with it all its names and addresses.
//!
//! Testbeds of several processes run side by side (nextest runs every test in a process of its own). Each takes a
//! number by locking `slots/N.lock`; the kernel lets go of the lock when the process ends in any way. A free lock
//! whose directory still exists means that the owner died: whoever takes it cleans first.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Where everything of all testbeds lies. Short, because the paths of unix sockets may have 107 bytes.
pub const ROOT: &str = "/tmp/remuda-testbed";
const N_SLOTS: u8 = 250;
const CLEAN: &str = include_str!("clean.sh");
const ENTER: &str = include_str!("enter.sh");

/// A number that is ours as long as this value lives.
#[derive(Debug)]
pub struct Slot {
    pub number: u8,
    _lock: File,
}

impl Slot {
    /// Takes a free number; on the way removes what dead owners of other numbers left behind.
    pub fn take() -> Result<Slot> {
        let mut taken = None;
        for number in 0..N_SLOTS {
            // Slots are used from the bottom: a number without a lock file was never used, nor any above it.
            let was_used = lock_path(number).exists();
            if !was_used && taken.is_some() {
                break;
            }
            let Some(slot) = Slot::try_take(number)? else { continue };
            slot.clean()?;
            if taken.is_none() {
                taken = Some(slot);
            }
        }
        taken.context("all 250 slots are in use: run `remuda-testbed ls` to see by whom")
    }

    /// Takes this number when nobody has it.
    pub fn try_take(number: u8) -> Result<Option<Slot>> {
        let path = lock_path(number);
        fs::create_dir_all(Path::new(ROOT).join("slots")).with_context(|| format!("cannot make {ROOT}/slots"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Slot { number, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    pub fn dir(&self) -> PathBuf {
        dir(self.number)
    }

    pub fn bridge(&self) -> String {
        format!("rtb{}", self.number)
    }

    /// The root namespace's end of the wire to a host.
    pub fn wire(&self, host_idx: usize) -> String {
        format!("rtb{}v{}", self.number, host_idx + 1)
    }

    pub fn netns(&self, host_idx: usize) -> String {
        format!("rtb{}h{}", self.number, host_idx + 1)
    }

    /// Relative to the root of a cgroup hierarchy.
    pub fn cgroup(&self, host_idx: usize) -> String {
        format!("/remuda-testbed/{}/h{}", self.number, host_idx + 1)
    }

    /// The machine that runs the tests, as the hosts see it.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 1)
    }

    pub fn address(&self, host_idx: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 11 + host_idx as u8)
    }

    /// Removes everything that carries this number. Does nothing when there is nothing.
    pub fn clean(&self) -> Result<()> {
        if !self.dir().exists() {
            return Ok(());
        }
        let script = scripts()?.join("clean.sh");
        let status = Command::new("sh")
            .arg(script)
            .arg(self.number.to_string())
            .stdin(Stdio::null())
            .status()
            .context("cannot run clean.sh")?;
        if !status.success() {
            bail!("cleaning slot {} failed ({status}): see {}/clean.log", self.number, ROOT);
        }
        Ok(())
    }

    /// Starts the process that cleans this slot as soon as our lock is gone without our having cleaned.
    ///
    /// It has its own process group and no inherited output, so that neither Ctrl-C nor a test runner that kills its
    /// test's group takes it along, and no runner waits for it.
    pub fn guard(&self) -> Result<Child> {
        use std::os::unix::process::CommandExt;
        Command::new("flock")
            .args(["--no-fork", "--exclusive"])
            .arg(lock_path(self.number))
            .arg("sh")
            .arg(scripts()?.join("clean.sh"))
            .arg(self.number.to_string())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start `flock` (package util-linux)")
    }
}

/// The directory of a slot.
pub fn dir(number: u8) -> PathBuf {
    Path::new(ROOT).join("bed").join(number.to_string())
}

/// Cleans every slot whose owner is gone and gives their numbers.
pub fn sweep() -> Result<Vec<u8>> {
    let mut cleaned = Vec::new();
    for number in 0..N_SLOTS {
        if !dir(number).exists() {
            continue;
        }
        if let Some(slot) = Slot::try_take(number)? {
            slot.clean()?;
            cleaned.push(number);
        }
    }
    Ok(cleaned)
}

/// Slots that somebody holds and uses.
pub fn used() -> Result<Vec<u8>> {
    let mut used = Vec::new();
    for number in 0..N_SLOTS {
        if dir(number).exists() && Slot::try_take(number)?.is_none() {
            used.push(number);
        }
    }
    Ok(used)
}

/// The helper scripts as files: written once per content, by rename, because many processes may do so at once.
pub fn scripts() -> Result<PathBuf> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = Path::new(ROOT).join(format!("scripts-{:016x}", fingerprint(&[CLEAN, ENTER])));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, text) in [("clean.sh", CLEAN), ("enter.sh", ENTER)] {
        let path = dir.join(name);
        if !path.exists() {
            let fresh = dir.join(format!(".{name}.{}", std::process::id()));
            fs::write(&fresh, text).with_context(|| format!("cannot write {}", fresh.display()))?;
            fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(dir)
}

/// FNV-1a: tells two versions of a file apart, nothing more.
pub fn fingerprint(parts: &[&str]) -> u64 {
    parts
        .iter()
        .flat_map(|part| part.bytes().chain([0]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn lock_path(number: u8) -> PathBuf {
    Path::new(ROOT).join("slots").join(format!("{number}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_takers_get_two_numbers_and_a_number_comes_back() {
        let first = Slot::take().unwrap();
        let second = Slot::take().unwrap();
        assert_ne!(first.number, second.number);
        assert!(Slot::try_take(first.number).unwrap().is_none());
        let number = second.number;
        drop(second);
        // Another test may take it in between; then it is in use again, which is as good an answer.
        let _ = Slot::try_take(number).unwrap();
    }

    #[test]
    fn names_fit_into_an_interface_name() {
        let slot = Slot::take().unwrap();
        let longest = Slot { number: 249, _lock: slot._lock };
        assert!(longest.wire(199).len() <= 15, "{}", longest.wire(199));
        assert_eq!(longest.address(0).to_string(), "10.213.249.11");
    }
}
