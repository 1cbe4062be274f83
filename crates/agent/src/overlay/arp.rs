//! Tells the containers of this host that an address is behind the bridge now, before their neighbour tables find out by
//! themselves: a gratuitous ARP answer, sent twice, because a table that has just changed does not listen for a second.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use remuda_runtime::Clock;

use crate::network::linux::run;

/// A neighbour table does not change again within this time (`locktime`).
const LOCK: Duration = Duration::from_millis(1100);

/// Number and Ethernet address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    index: i32,
    mac: [u8; 6],
}

/// Says on the bridge that these addresses are at the bridge. Takes a good second.
pub async fn announce(clock: Clock, bridge: String, addresses: Vec<Ipv4Addr>) {
    for round in 0..2 {
        if round > 0 {
            clock.sleep(LOCK).await;
        }
        // No bridge, no containers to tell.
        let Ok(shown) = run("ip", &["-o", "link", "show", "dev", &bridge], None).await else { return };
        let Some(interface) = interface(&shown) else { return };
        if let Err(error) = send(interface, &addresses) {
            tracing::warn!(%error, bridge, "containers were not told that addresses have moved");
            return;
        }
    }
}

/// Reads `ip -o link show dev NAME`.
fn interface(shown: &str) -> Option<Interface> {
    let index = shown.split_once(':')?.0.trim().parse().ok()?;
    let text = shown.split_once("link/ether ")?.1.split_whitespace().next()?;
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    Some(Interface { index, mac: bytes?.try_into().ok()? })
}

/// Ethernet header and an ARP answer for everybody: `address` is at `mac`.
fn frame(mac: [u8; 6], address: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0_u8; 42];
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&mac);
    // ARP; Ethernet and IPv4 with addresses of 6 and 4 bytes; an answer.
    frame[12..22].copy_from_slice(&[0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x02]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&[0xff; 6]);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

#[expect(unsafe_code, reason = "packet sockets have no safe address type")]
fn send(interface: Interface, addresses: &[Ipv4Addr]) -> io::Result<()> {
    let protocol = i32::from(libc::ETH_P_ARP.cast_unsigned() as u16);
    let socket = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None)?;
    // SAFETY: all zeros is a valid `sockaddr_ll`.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as libc::sa_family_t;
    to.sll_protocol = (protocol as u16).to_be();
    to.sll_ifindex = interface.index;
    to.sll_halen = 6;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    for address in addresses {
        let frame = frame(interface.mac, *address);
        let (target, socket) = ((&raw const to).cast::<libc::sockaddr>(), std::os::fd::AsRawFd::as_raw_fd(&socket));
        // SAFETY: frame and address outlive the call and the lengths are theirs; the socket is open.
        let sent = unsafe { libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, target, length) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_read() {
        let shown = "5: remuda0: <BROADCAST,MULTICAST,UP> mtu 1402 qdisc noqueue state UP mode DEFAULT group default \\    \
                     link/ether 02:42:9a:00:01:ff brd ff:ff:ff:ff:ff:ff";
        let expected = Interface { index: 5, mac: [0x02, 0x42, 0x9a, 0x00, 0x01, 0xff] };
        assert_eq!(interface(shown), Some(expected));
        for wrong in ["", "x: remuda0", "5: tun0: <> link/none"] {
            assert_eq!(interface(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_frame_is_an_arp_answer() {
        let frame = frame([2, 0x42, 1, 2, 3, 4], Ipv4Addr::new(10, 42, 0, 7));
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let (mac, address) = ("024201020304", "0a2a0007");
        assert_eq!(hex, format!("ffffffffffff{mac}08060001080006040002{mac}{address}ffffffffffff{address}"));
    }
}
