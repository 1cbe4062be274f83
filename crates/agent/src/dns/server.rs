//! The sockets: UDP and TCP on one address, local answers given at once, forwarded ones by bounded tasks.
//!
//! Our own loop on hickory-proto instead of hickory-server, see `docs/decisions/dns-loop.md`: forwarded packets must
//! pass byte for byte, the number of questions in flight must be bounded, and tasks belong to [`Tasks`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use remuda_runtime::{Random, Tasks};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::{Answer, ChainEnd, View, is_below_domain};
use super::forward;
use super::packet::{self, Answers, Asked, Question};
use crate::book::Book;

/// Questions waiting for upstream servers at once.
const MAX_IN_FLIGHT: usize = 1024;
/// TCP connections at once.
const MAX_CONNECTIONS: usize = 128;
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after a socket failed, so that a lasting fault does not take a core.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Where the current book is; `None` before the first directory. Held only while one question is worked out, or one
/// change taken over: nobody hears half an update.
pub type Shelf = Arc<RwLock<Option<Book>>>;

/// Answers questions from the current book; shared by all sockets.
#[derive(Debug)]
pub struct Responder {
    shelf: Shelf,
    upstreams: RwLock<Arc<[SocketAddr]>>,
    random: Random,
    in_flight: Arc<Semaphore>,
    local: AtomicU64,
    forwarded: AtomicU64,
    failed: AtomicU64,
}

/// Questions answered since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    pub local: u64,
    pub forwarded: u64,
    /// No upstream server answered, or too many questions were waiting for one.
    pub failed: u64,
}

/// What to do with a packet.
#[derive(Debug)]
pub enum Response {
    Now(Vec<u8>),
    /// Somebody else must be asked first.
    Later(Box<Job>),
    Nothing,
}

/// A question for upstream servers, and what its answer becomes.
#[derive(Debug)]
pub struct Job {
    question: Question,
    /// What is sent to the servers.
    request: Vec<u8>,
    servers: Vec<SocketAddr>,
    /// CNAMEs of ours that come before what upstream answers, and the reply when upstream has nothing. `None`: the
    /// response is relayed.
    chain: Option<(Answers, Fallback)>,
    limit: usize,
}

/// What is said when the end of a chain has no addresses.
#[derive(Debug)]
enum Fallback {
    Reply(Vec<u8>),
    /// The question itself goes upstream, as the client asked it.
    Relay(Vec<u8>),
}

impl Responder {
    /// While there is no book, names of ours fail; all others are forwarded.
    pub fn new(random: Random, shelf: Shelf) -> Responder {
        Responder {
            shelf,
            upstreams: RwLock::new(Arc::new([])),
            random,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            local: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// The host's own name servers.
    pub fn set_upstreams(&self, servers: &[SocketAddr]) {
        *self.upstreams.write().unwrap_or_else(PoisonError::into_inner) = servers.into();
    }

    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { local: read(&self.local), forwarded: read(&self.forwarded), failed: read(&self.failed) }
    }

    /// Decides about one packet. `limit` is the longest reply the transport takes; `None`: what the question says.
    pub fn respond(&self, request: &[u8], source: IpAddr, limit: Option<usize>) -> Response {
        let question = match packet::read(request) {
            Asked::Question(question) => *question,
            Asked::Reply(reply) => return Response::Now(reply),
            Asked::Nothing => return Response::Nothing,
        };
        let limit = limit.unwrap_or_else(|| question.udp_limit());
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        let Some(book) = &*shelf else { return self.without_book(question, request, limit) };
        let view = View::new(book, source);
        let answer = match &question.name {
            _ if !question.is_internet_class() => Answer::NotImplemented,
            Some(name) => view.answer(name, question.kind()),
            None if question.is_ours => Answer::Missing,
            None => Answer::Forward,
        };
        let response = self.carry_out(book.directory().revision, view, question, answer, request, limit);
        if matches!(response, Response::Now(_)) {
            self.local.fetch_add(1, Ordering::Relaxed);
        }
        response
    }

    fn carry_out(
        &self,
        revision: i64,
        view: View<'_>,
        question: Question,
        answer: Answer,
        request: &[u8],
        limit: usize,
    ) -> Response {
        let seed = || self.random.next_u64();
        let broken = |question: &Question| Response::Now(packet::write_code(question, ResponseCode::ServFail, limit));
        match answer {
            Answer::Addresses(found) => {
                // One address needs no order, and so no randomness.
                let seed = if found.len() > 1 { seed() } else { 0 };
                let answers = Answers::addresses(&question, &found, seed);
                Response::Now(packet::write_answers(&question, answers, limit))
            }
            Answer::Alias(target) => match Answers::chain(&question, &[&*target]) {
                Some(answers) => Response::Now(packet::write_answers(&question, answers, limit)),
                None => broken(&question),
            },
            Answer::Chain { targets, end } => {
                let targets: Vec<&str> = targets.iter().map(AsRef::as_ref).collect();
                let last = targets.last().copied().unwrap_or_default();
                let Some(chain) = Answers::chain(&question, &targets) else { return broken(&question) };
                match end {
                    ChainEnd::Addresses(found) => {
                        let answers = chain.with_addresses_of(last, &found, seed());
                        Response::Now(packet::write_answers(&question, answers, limit))
                    }
                    ChainEnd::Upstream { otherwise } => {
                        let Some(own) = packet::write_question(seed() as u16, last) else { return broken(&question) };
                        let servers = self.servers(view);
                        let fallback =
                            match self.carry_out(revision, view, question.clone(), *otherwise, request, limit) {
                                Response::Now(reply) => Fallback::Reply(reply),
                                _ => Fallback::Relay(request.to_vec()),
                            };
                        let chain = Some((chain, fallback));
                        Response::Later(Box::new(Job { question, request: own, servers, chain, limit }))
                    }
                }
            }
            Answer::Empty if question.name.as_deref().is_some_and(is_below_domain) => {
                Response::Now(packet::write_negative(&question, ResponseCode::NoError, revision, limit))
            }
            Answer::Empty => Response::Now(packet::write_answers(&question, Answers::default(), limit)),
            Answer::Missing => {
                Response::Now(packet::write_negative(&question, ResponseCode::NXDomain, revision, limit))
            }
            Answer::Soa => Response::Now(packet::write_soa(&question, revision, limit)),
            Answer::NotImplemented => Response::Now(packet::write_code(&question, ResponseCode::NotImp, limit)),
            Answer::Forward => {
                let (request, servers) = (request.to_vec(), self.servers(view));
                Response::Later(Box::new(Job { question, request, servers, chain: None, limit }))
            }
        }
    }

    /// Before the first directory nobody may hear that a name of ours does not exist.
    fn without_book(&self, question: Question, request: &[u8], limit: usize) -> Response {
        if question.is_ours {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Response::Now(packet::write_code(&question, ResponseCode::ServFail, limit));
        }
        let servers = self.upstreams.read().unwrap_or_else(PoisonError::into_inner).to_vec();
        Response::Later(Box::new(Job { question, request: request.to_vec(), servers, chain: None, limit }))
    }

    fn servers(&self, view: View<'_>) -> Vec<SocketAddr> {
        let own = view.upstreams().iter().copied().map(forward::with_port);
        own.chain(self.upstreams.read().unwrap_or_else(PoisonError::into_inner).iter().copied()).collect()
    }

    /// Asks upstream, as far as there is room for another question.
    async fn finish(&self, job: Job) -> Vec<u8> {
        let Ok(_room) = self.in_flight.try_acquire() else { return self.fail(&job.question, job.limit) };
        self.finish_with_room(job).await
    }

    async fn finish_with_room(&self, job: Job) -> Vec<u8> {
        let Job { question, request, servers, chain, limit } = job;
        let response = forward::relay(&request, &servers).await;
        let request = match chain {
            None => response,
            Some((chain, fallback)) => match response.and_then(|response| chain.with_answers_of(&response)) {
                Some(answers) => {
                    self.forwarded.fetch_add(1, Ordering::Relaxed);
                    return packet::write_answers(&question, answers, limit);
                }
                None => match fallback {
                    Fallback::Reply(reply) => {
                        self.local.fetch_add(1, Ordering::Relaxed);
                        return reply;
                    }
                    Fallback::Relay(request) => forward::relay(&request, &servers).await,
                },
            },
        };
        match request {
            Some(response) => {
                self.forwarded.fetch_add(1, Ordering::Relaxed);
                packet::adapt_relayed(&question, response, limit)
            }
            None => self.fail(&question, limit),
        }
    }

    fn fail(&self, question: &Question, limit: usize) -> Vec<u8> {
        self.failed.fetch_add(1, Ordering::Relaxed);
        packet::write_code(question, ResponseCode::ServFail, limit)
    }
}

/// Starts answering on that address, UDP and TCP on one port (the given one, or a free one for 0). The sockets live
/// until `tasks` stops.
pub async fn listen(responder: &Arc<Responder>, tasks: &Tasks, address: SocketAddr) -> io::Result<SocketAddr> {
    let (udp, tcp) = bind(address).await?;
    let bound = udp.local_addr()?;
    tasks.spawn_until_stopped("dns udp", answer_udp(responder.clone(), tasks.clone(), Arc::new(udp)));
    tasks.spawn_until_stopped("dns tcp", answer_tcp(responder.clone(), tasks.clone(), tcp));
    Ok(bound)
}

/// A port that is free for both.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    const TRIES: usize = 20;
    let mut last = None;
    for _ in 0..TRIES {
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
        if address.port() != 0 {
            break;
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no port is free for both UDP and TCP")))
}

async fn answer_udp(responder: Arc<Responder>, tasks: Tasks, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "receiving a DNS packet failed");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        match responder.respond(&buffer[..length], source.ip(), None) {
            Response::Now(reply) => send(&socket, &reply, source).await,
            Response::Later(job) => forward_udp(&responder, &tasks, &socket, source, *job).await,
            Response::Nothing => {}
        }
    }
}

/// The task is started only when there is room, so that a flood costs packets and not memory.
async fn forward_udp(responder: &Arc<Responder>, tasks: &Tasks, socket: &Arc<UdpSocket>, source: SocketAddr, job: Job) {
    let Ok(room) = responder.in_flight.clone().try_acquire_owned() else {
        return send(socket, &responder.fail(&job.question, job.limit), source).await;
    };
    let (responder, socket) = (responder.clone(), socket.clone());
    tasks.spawn_until_stopped("dns forward", async move {
        let reply = responder.finish_with_room(job).await;
        drop(room);
        send(&socket, &reply, source).await;
    });
}

async fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        tracing::debug!(%to, %error, "sending a DNS reply failed");
    }
}

async fn answer_tcp(responder: Arc<Responder>, tasks: Tasks, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed, so acquiring does not fail.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, source)) => {
                let responder = responder.clone();
                tasks.spawn_until_stopped("dns connection", async move {
                    let ended = answer_connection(&responder, stream, source.ip()).await;
                    tracing::trace!(%source, ?ended, "DNS connection ended");
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a DNS connection failed");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn answer_connection(responder: &Responder, mut stream: TcpStream, source: IpAddr) -> io::Result<()> {
    let limit = Some(usize::from(u16::MAX));
    loop {
        let request = timeout(IDLE, forward::read_framed(&mut stream)).await??;
        let reply = match responder.respond(&request, source, limit) {
            Response::Now(reply) => reply,
            Response::Later(job) => responder.finish(*job).await,
            Response::Nothing => return Ok(()),
        };
        timeout(IDLE, forward::write_framed(&mut stream, &reply)).await??;
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
    use proptest::prelude::*;
    use remuda_wire::directory::{Container, Directory, Entry, Host, Membership, Service, Stack};

    use super::*;

    /// Stack `s` with service `web` of `n` containers from 10.42.0.1 on.
    fn directory(n: u8) -> Directory {
        let mut directory = Directory { revision: 42, ..Directory::default() };
        directory.put(Entry::Host(Host { id: 1, uuid: "host".into(), ..Host::default() }));
        directory.put(Entry::Stack(Stack { id: 1, name: "s".into(), ..Stack::default() }));
        directory.put(Entry::Service(Service {
            id: 1,
            stack_id: 1,
            name: "web".into(),
            kind: "service".into(),
            ..Service::default()
        }));
        for id in 1..=i64::from(n) {
            directory.put(Entry::Container(Container {
                id,
                name: format!("s_web_{id}"),
                state: "running".into(),
                host_id: Some(1),
                address: Some(format!("10.42.0.{id}")),
                network_mode: "managed".into(),
                services: vec![Membership { service_id: 1, sidekick: None }],
                ..Container::default()
            }));
        }
        directory
    }

    fn responder(n: u8) -> Arc<Responder> {
        let book = Book::of(directory(n), "host");
        Arc::new(Responder::new(Random::seeded(1), Arc::new(RwLock::new(Some(book)))))
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(77, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        let mut name = Name::from_ascii(name).unwrap();
        name.set_fqdn(true);
        message.add_query(Query::query(name, kind));
        message
    }

    fn now(responder: &Responder, request: &[u8], limit: Option<usize>) -> Message {
        match responder.respond(request, "10.42.0.1".parse().unwrap(), limit) {
            Response::Now(reply) => Message::from_vec(&reply).unwrap(),
            other => panic!("expected a reply at once: {other:?}"),
        }
    }

    /// Code, flags and sections in one line.
    fn show(message: &Message) -> String {
        let flags = [(message.authoritative, "aa"), (message.truncation, "tc"), (message.recursion_available, "ra")];
        let flags: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        let mut lines = vec![format!("{:?} {}", message.response_code, flags.join(" "))];
        let mut answers: Vec<_> = message.answers.iter().map(ToString::to_string).collect();
        answers.sort();
        lines.extend(answers);
        lines.extend(message.authorities.iter().map(|record| format!("authority {record}")));
        lines.join("\n")
    }

    #[test]
    fn replies_have_the_documented_shape() {
        let responder = responder(2);
        let show = |name, kind| show(&now(&responder, &question(name, kind).to_vec().unwrap(), None));
        assert_eq!(show("Web", RecordType::A), "NoError aa ra\nweb. 1 IN A 10.42.0.1\nweb. 1 IN A 10.42.0.2");
        assert_eq!(show("web", RecordType::AAAA), "NoError aa ra");
        let soa = "rancher.internal. 1 IN SOA rancher.internal. rancher.internal. 42 60 10 86400 1";
        assert_eq!(show("no.rancher.internal", RecordType::A), format!("NXDomain aa\nauthority {soa}"));
        assert_eq!(show("web.s.rancher.internal", RecordType::TXT), format!("NoError aa\nauthority {soa}"));
        assert_eq!(show("a\\.b.rancher.internal", RecordType::A), format!("NXDomain aa\nauthority {soa}"));
        assert_eq!(show("rancher.internal", RecordType::SOA), format!("NoError aa ra\n{soa}"));
        assert_eq!(show("web", RecordType::ANY), "NotImp ra");
        assert_eq!(responder.counts().local, 7);
    }

    #[test]
    fn odd_requests_get_the_code_they_deserve() {
        let responder = responder(1);
        let edit = |change: fn(&mut Message)| {
            let mut message = question("web", RecordType::A);
            change(&mut message);
            message.to_vec().unwrap()
        };
        let cases = [
            (edit(|m| m.queries[0].query_class = DNSClass::CH), "NotImp"),
            (edit(|m| m.queries.clear()), "ServFail"),
            (edit(|m| m.queries.push(m.queries[0].clone())), "ServFail"),
            (edit(|m| m.metadata.op_code = OpCode::Status), "NotImp"),
            ([&edit(|_| {})[..12], &[0xc0, 0x0c][..]].concat(), "FormErr"),
        ];
        for (request, expected) in cases {
            let reply = now(&responder, &request, None);
            assert_eq!((reply.id, format!("{:?}", reply.response_code)), (77, expected.to_owned()));
        }
        let reply = edit(|m| m.metadata.message_type = MessageType::Response);
        for silent in [&reply[..], &[], &[1, 2, 3]] {
            assert!(matches!(responder.respond(silent, "10.42.0.1".parse().unwrap(), None), Response::Nothing));
        }
    }

    #[test]
    fn a_request_with_an_unreadable_tail_is_still_answered() {
        let mut request = question("web", RecordType::A).to_vec().unwrap();
        request[11] = 1;
        request.extend([9, 9, 9]);
        assert_eq!(now(&responder(1), &request, None).answers.len(), 1);
    }

    #[test]
    fn answers_fit_what_the_client_takes() {
        let responder = responder(200);
        let with_edns = |size: u16| {
            let mut message = question("web", RecordType::A);
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
            message.to_vec().unwrap()
        };
        let plain = question("web", RecordType::A).to_vec().unwrap();
        let all_of_it = Some(usize::from(u16::MAX));
        let cases = [
            (plain.clone(), None, (0, true)),
            (plain, all_of_it, (200, false)),
            (with_edns(1232), None, (0, true)),
            (with_edns(4096), None, (200, false)),
            (with_edns(100), None, (0, true)),
        ];
        for (request, limit, expected) in cases {
            let reply = now(&responder, &request, limit);
            assert_eq!((reply.answers.len(), reply.truncation), expected);
            assert_eq!(reply.edns.is_some(), Message::from_vec(&request).unwrap().edns.is_some());
        }
    }

    #[test]
    fn every_address_comes_first_sometimes() {
        let responder = responder(4);
        let request = question("web", RecordType::A).to_vec().unwrap();
        let first = || match now(&responder, &request, None).answers[0].data {
            RData::A(address) => address.0,
            ref other => panic!("{other:?}"),
        };
        let seen: std::collections::BTreeSet<_> = (0..200).map(|_| first()).collect();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn without_a_directory_names_of_ours_fail_for_now() {
        let responder = Responder::new(Random::seeded(1), Shelf::default());
        let request = question("web.s.rancher.internal", RecordType::A).to_vec().unwrap();
        assert_eq!(now(&responder, &request, None).response_code, ResponseCode::ServFail);
    }

    proptest! {
        #[test]
        fn nothing_from_outside_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = responder(1).respond(&bytes, "10.42.0.1".parse().unwrap(), None);
        }

        /// Valid questions with bytes changed and cut: what comes back at once can be read, and fits.
        #[test]
        fn damaged_questions_get_readable_replies(
            name in "[a-zA-Z0-9._-]{0,40}",
            kind in any::<u16>(),
            damage in prop::collection::vec((0usize..80, any::<u8>()), 0..6),
            cut in 12usize..200,
        ) {
            let name = Name::from_ascii(&name).unwrap_or_else(|_| Name::root());
            let mut message = Message::new(5, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(name, RecordType::from(kind)));
            message.set_edns(Edns::new());
            let mut request = message.to_vec().unwrap();
            for (at, byte) in damage {
                if let Some(place) = request.get_mut(at) {
                    *place = byte;
                }
            }
            request.truncate(cut);
            if let Response::Now(reply) = responder(3).respond(&request, "10.42.0.1".parse().unwrap(), None) {
                prop_assert!(Message::from_vec(&reply).is_ok());
                prop_assert_eq!(&reply[..2], &request[..2]);
            }
        }

        /// What an upstream server sends is adapted without a panic, and fits.
        #[test]
        fn relayed_bytes_fit(response in prop::collection::vec(any::<u8>(), 0..900), kind in any::<u16>()) {
            let request = question("example.com", RecordType::from(kind)).to_vec().unwrap();
            let Asked::Question(question) = packet::read(&request) else { return Ok(()) };
            prop_assert!(packet::adapt_relayed(&question, response, 512).len() <= 512);
        }
    }

    /// An upstream server: 200 addresses for `big.` (cut over UDP), NXDOMAIN for `gone.`, silence for `mute.`, else one
    /// address and a record of a type nobody knows.
    async fn upstream(tasks: &Tasks) -> SocketAddr {
        let (udp, tcp) = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = udp.local_addr().unwrap();
        let reply = |request: &[u8], cut: bool| {
            let Asked::Question(question) = packet::read(request) else { return None };
            let found: Vec<_> = (1..=200).map(|n| std::net::Ipv4Addr::new(192, 0, 2, n)).collect();
            let limit = if cut { 512 } else { usize::from(u16::MAX) };
            match question.name.as_deref() {
                Some("mute") => None,
                Some("gone") => Some(packet::write_code(&question, ResponseCode::NXDomain, limit)),
                Some("big") => Some(packet::write_answers(&question, Answers::addresses(&question, &found, 1), limit)),
                _ => Some(packet::write_answers(&question, Answers::addresses(&question, &found[..1], 1), limit)),
            }
        };
        tasks.spawn_until_stopped("upstream udp", async move {
            let mut buffer = [0; 2048];
            while let Ok((length, source)) = udp.recv_from(&mut buffer).await {
                if let Some(reply) = reply(&buffer[..length], true) {
                    let _ = udp.send_to(&reply, source).await;
                }
            }
        });
        tasks.spawn_until_stopped("upstream tcp", async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let request = forward::read_framed(&mut stream).await.unwrap();
                if let Some(reply) = reply(&request, false) {
                    let _ = forward::write_framed(&mut stream, &reply).await;
                }
            }
        });
        address
    }

    async fn ask_udp(server: SocketAddr, request: &[u8]) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(request, server).await.unwrap();
        let mut buffer = [0; 4096];
        let length = timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await.unwrap().unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn ask_tcp(server: SocketAddr, requests: &[Vec<u8>]) -> Vec<Message> {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let mut replies = Vec::new();
        for request in requests {
            forward::write_framed(&mut stream, request).await.unwrap();
            replies.push(Message::from_vec(&forward::read_framed(&mut stream).await.unwrap()).unwrap());
        }
        replies
    }

    #[tokio::test]
    async fn sockets_answer_and_forward() {
        let tasks = Tasks::new();
        let responder = responder(1);
        let upstream = upstream(&tasks).await;
        responder.set_upstreams(&[upstream]);
        let server = listen(&responder, &tasks, "127.0.0.1:0".parse().unwrap()).await.unwrap();

        let request = |name, kind| question(name, kind).to_vec().unwrap();
        let local = ask_udp(server, &request("web.s", RecordType::A)).await;
        assert_eq!(show(&local), "NoError aa ra\nweb.s. 1 IN A 10.42.0.1");
        let relayed = ask_udp(server, &request("example.com", RecordType::A)).await;
        assert_eq!((relayed.id, relayed.answers.len()), (77, 1));
        let hidden = ask_udp(server, &request("gone", RecordType::AAAA)).await;
        assert_eq!(hidden.response_code, ResponseCode::NoError);
        let shown = ask_udp(server, &request("gone", RecordType::A)).await;
        assert_eq!(shown.response_code, ResponseCode::NXDomain);
        let cut = ask_udp(server, &request("big", RecordType::A)).await;
        assert_eq!((cut.truncation, cut.answers.len()), (true, 0));
        let both = ask_tcp(server, &[request("big", RecordType::A), request("web.s", RecordType::A)]).await;
        assert_eq!(both.iter().map(|reply| reply.answers.len()).collect::<Vec<_>>(), [200, 1]);
        assert_eq!(responder.counts(), Counts { local: 2, forwarded: 5, failed: 0 });
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn the_next_server_is_asked_and_failure_is_said() {
        let tasks = Tasks::new();
        let responder = responder(1);
        let good = upstream(&tasks).await;
        // Nobody listens on a port just given back: the kernel refuses at once.
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let server = listen(&responder, &tasks, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        responder.set_upstreams(&[closed, good]);
        let request = question("example.com", RecordType::A).to_vec().unwrap();
        assert_eq!(ask_udp(server, &request).await.response_code, ResponseCode::NoError);
        responder.set_upstreams(&[closed]);
        assert_eq!(ask_udp(server, &request).await.response_code, ResponseCode::ServFail);
        responder.set_upstreams(&[]);
        assert_eq!(ask_udp(server, &request).await.response_code, ResponseCode::ServFail);
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }
}
