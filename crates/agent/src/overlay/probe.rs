//! Asks the other hosts whether they are there: an ICMP echo a second to each, over the tunnel, answered by the other
//! kernel. What it proves is the way, both directions, whatever runs at the other end.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remuda_runtime::{Clock, Tasks};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::PeerStatus;
use super::tracker::Peer;

/// Between two questions to a host; hundreds of hosts are asked less often.
const EVERY: Duration = Duration::from_secs(1);
/// Hosts asked within [`EVERY`].
const AT_ONCE: usize = 100;
/// Unanswered questions until a host counts as unreachable.
const MISSED: u32 = 3;
/// How a question of ours is known again.
const MARK: [u8; 6] = *b"remuda";

/// The other hosts and what they answered. Clones share it.
#[derive(Clone, Default)]
pub struct Probe(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    source: Option<Ipv4Addr>,
    peers: BTreeMap<i64, Asked>,
    /// Raised when somebody is reachable who was not, or the other way round.
    changes: u64,
}

#[derive(Clone)]
struct Asked {
    name: String,
    address: Ipv4Addr,
    is_reachable: Option<bool>,
    round_trip: Duration,
    sequence: u16,
    sent: Option<Instant>,
    n_missed: u32,
}

impl Probe {
    /// Whom to ask, and from which address. `None`: nobody yet.
    pub fn set<'a>(&self, source: Option<Ipv4Addr>, peers: impl Iterator<Item = &'a Peer>) {
        let mut state = self.state();
        state.source = source;
        let mut before = std::mem::take(&mut state.peers);
        let asked = peers.map(|peer| {
            let known = before.remove(&peer.host_id).filter(|known| known.address == peer.overlay);
            let asked = known.unwrap_or(Asked {
                name: peer.name.clone(),
                address: peer.overlay,
                is_reachable: None,
                round_trip: Duration::ZERO,
                sequence: 0,
                sent: None,
                n_missed: 0,
            });
            (peer.host_id, Asked { name: peer.name.clone(), ..asked })
        });
        let asked = asked.collect();
        state.peers = asked;
    }

    pub fn status(&self) -> Vec<PeerStatus> {
        let state = self.state();
        let status = |(host_id, asked): (&i64, &Asked)| PeerStatus {
            host_id: *host_id,
            name: asked.name.clone(),
            address: Some(asked.address),
            is_reachable: asked.is_reachable,
            round_trip_us: u64::try_from(asked.round_trip.as_micros()).unwrap_or(u64::MAX),
        };
        state.peers.iter().map(status).collect()
    }

    /// Grows whenever [`Probe::status`] says something else of somebody's reachability.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until the tasks stop; `changed` is called when somebody's reachability has changed.
    pub async fn run(self, clock: Clock, tasks: Tasks, changed: impl Fn() + Send + 'static) {
        loop {
            let source = self.state().source;
            if let Some(source) = source {
                match socket(source) {
                    Ok(socket) => self.ask(&clock, source, &socket, &changed).await,
                    Err(error) => tracing::debug!(%error, %source, "other hosts cannot be asked from here"),
                }
            }
            if tasks.is_stopping() {
                return;
            }
            clock.sleep(EVERY).await;
        }
    }

    /// Until the source is another or the socket fails.
    async fn ask(&self, clock: &Clock, source: Ipv4Addr, socket: &UdpSocket, changed: &impl Fn()) {
        let mut buffer = [0_u8; 256];
        let mut next = clock.instant();
        loop {
            tokio::select! {
                biased;
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((length, _)) => self.answered(&buffer[..length], clock.instant(), changed),
                    Err(error) => {
                        tracing::debug!(%error, "asking other hosts failed");
                        return;
                    }
                },
                () = tokio::time::sleep_until(next) => {
                    let (pause, questions) = {
                        let mut state = self.state();
                        if state.source != Some(source) {
                            return;
                        }
                        let questions = state.questions(clock.instant());
                        let n_slow = u32::try_from(state.peers.len().div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
                        (EVERY * n_slow.max(1), questions)
                    };
                    if questions.changed {
                        changed();
                    }
                    for (address, packet) in questions.packets {
                        // No way there is an answer too: the next round counts it as missed.
                        let _ = socket.send_to(&packet, (address, 0)).await;
                    }
                    next = clock.instant() + pause;
                }
            }
        }
    }

    fn answered(&self, packet: &[u8], now: Instant, changed: &impl Fn()) {
        let Some((host, sequence)) = read_answer(packet) else { return };
        let flipped = {
            let mut state = self.state();
            let Some(asked) = state.peers.get_mut(&host) else { return };
            if asked.sequence != sequence {
                return;
            }
            let Some(sent) = asked.sent.take() else { return };
            asked.n_missed = 0;
            asked.round_trip = now.duration_since(sent);
            let flipped = asked.is_reachable.replace(true) != Some(true);
            state.changes += u64::from(flipped);
            flipped
        };
        if flipped {
            changed();
        }
    }
}

struct Questions {
    packets: Vec<(Ipv4Addr, Vec<u8>)>,
    changed: bool,
}

impl State {
    /// The questions of one round. Those of the last one that are still open are missed.
    fn questions(&mut self, now: Instant) -> Questions {
        let mut n_flipped = 0;
        let packets = self.peers.iter_mut().map(|(host, asked)| {
            if asked.sent.is_some() {
                asked.n_missed += 1;
                if asked.n_missed >= MISSED && asked.is_reachable.replace(false) != Some(false) {
                    n_flipped += 1;
                }
            }
            asked.sequence = asked.sequence.wrapping_add(1);
            asked.sent = Some(now);
            (asked.address, question(*host, asked.sequence))
        });
        let packets = packets.collect();
        self.changes += n_flipped;
        Questions { packets, changed: n_flipped > 0 }
    }
}

fn socket(source: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4))?;
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from((source, 0)).into())?;
    // To the standard library a socket is a socket: what it sends and receives are ICMP packets.
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

/// An echo request that says whom it asks.
fn question(host: i64, sequence: u16) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend([b'r', b'd']);
    packet.extend(sequence.to_be_bytes());
    packet.extend(MARK);
    packet.extend(host.to_be_bytes());
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Host and sequence of an answer, from a whole IP packet; `None`: something else.
fn read_answer(packet: &[u8]) -> Option<(i64, u16)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let icmp = packet.get(header..)?;
    if icmp.len() != 22 || icmp[..2] != [0, 0] || icmp[8..14] != MARK {
        return None;
    }
    let sequence = u16::from_be_bytes([icmp[6], icmp[7]]);
    Some((i64::from_be_bytes(icmp[14..22].try_into().ok()?), sequence))
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host_id: i64) -> Peer {
        let overlay = Ipv4Addr::new(10, 42, 9, u8::try_from(host_id).unwrap());
        Peer { host_id, name: format!("h{host_id}"), overlay, endpoint: None, public_key: None }
    }

    /// What the kernel of the other host would make of it.
    fn echoed(question: &[u8]) -> Vec<u8> {
        let mut answer = vec![0x45; 20];
        answer.extend(question);
        answer[20] = 0;
        answer
    }

    #[test]
    fn an_answer_is_known_again() {
        let asked = question(7, 300);
        assert_eq!(checksum(&asked), 0, "the checksum of a whole packet is zero");
        assert_eq!(read_answer(&echoed(&asked)), Some((7, 300)));
        let mut request = echoed(&asked);
        request[20] = 8;
        for other in [request.as_slice(), &echoed(&asked)[..30], b"", &[0x4f; 22], &[0x45; 42]] {
            assert_eq!(read_answer(other), None, "{other:?}");
        }
    }

    #[test]
    fn three_missed_answers_are_a_host_that_is_away() {
        let probe = Probe::default();
        let (now, silent) = (Clock::system().instant(), || {});
        probe.set(None, [peer(2), peer(3)].iter());
        let state = |probe: &Probe| probe.status().iter().map(|peer| peer.is_reachable).collect::<Vec<_>>();
        assert_eq!(state(&probe), [None, None]);
        for _ in 0..5 {
            let questions = probe.state().questions(now);
            probe.answered(&echoed(&questions.packets[0].1), now + Duration::from_millis(3), &silent);
        }
        assert_eq!(state(&probe), [Some(true), Some(false)]);
        assert_eq!((probe.status()[0].round_trip_us, probe.changes()), (3000, 2));
        let late = probe.state().questions(now).packets.remove(1).1;
        drop(probe.state().questions(now));
        probe.answered(&echoed(&late), now, &silent);
        assert_eq!(state(&probe)[1], Some(false), "an answer to an older question does not count");
        let questions = probe.state().questions(now);
        probe.answered(&echoed(&questions.packets[1].1), now, &silent);
        assert_eq!(state(&probe), [Some(true), Some(true)]);
        probe.set(None, [peer(3)].iter());
        assert_eq!(state(&probe), [Some(true)], "what is known of a host stays");
    }
}
