//! A TUN device: packets without Ethernet headers, read and written as bytes. Made persistent, so that the interface and
//! its routes stay while the datapath is replaced.
//!
//! Our own rather than the `tun` crate: of that, three system calls are what we need.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use tokio::io::unix::AsyncFd;

/// Packets taken at once when many wait.
const BATCH: usize = 64;

/// Cheap to clone.
#[derive(Clone)]
pub struct Tun {
    file: Arc<AsyncFd<File>>,
    mtu: u16,
}

impl Tun {
    /// Opens the interface of that name, made when it is not there. Needs CAP_NET_ADMIN.
    pub fn open(name: &str, mtu: u16) -> io::Result<Tun> {
        let path = "/dev/net/tun";
        let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        attach(&file, name)?;
        #[expect(unsafe_code, reason = "tokio cannot know that the descriptor stays the one it was given")]
        // SAFETY: `file` owns its descriptor, and the `AsyncFd` owns `file` and never gives it away.
        let registered = unsafe { AsyncFd::register(file) };
        Ok(Tun { file: Arc::new(registered.map_err(|error| error.into_parts().1)?), mtu })
    }
}

#[expect(unsafe_code, reason = "a TUN device is made by ioctl; no safe call does it")]
fn attach(file: &File, name: &str) -> io::Result<()> {
    let name = name.as_bytes();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all zeros is a valid `ifreq`: an empty name and a union of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap_or(0);
    // SAFETY: the descriptor is open for the whole call and `request` is an `ifreq` as TUNSETIFF wants it; the name is
    // shorter than its field, so a zero ends it.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: TUNSETPERSIST takes a number, not a pointer.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl IpSend for Tun {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        let bytes = packet.into_bytes();
        loop {
            let mut ready = self.file.writable().await?;
            match ready.try_io(|file| file.get_ref().write(&bytes)) {
                Ok(Ok(_)) => return Ok(()),
                // The interface is down: the packet is lost like on any wire that is cut.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

impl IpRecv for Tun {
    async fn recv<'a>(
        &'a mut self,
        pool: &mut PacketBufPool,
    ) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        let mut packets = Vec::new();
        while packets.is_empty() {
            let mut ready = self.file.readable().await?;
            while packets.len() < BATCH {
                let mut packet = pool.get();
                match ready.try_io(|file| file.get_ref().read(&mut packet)) {
                    Ok(Ok(length)) => {
                        packet.truncate(length);
                        // What is no IP packet goes nowhere.
                        packets.extend(packet.try_into_ip().ok());
                    }
                    Ok(Err(error)) if packets.is_empty() => return Err(error),
                    _ => break,
                }
            }
        }
        Ok(packets.into_iter())
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(self.mtu)
    }
}
