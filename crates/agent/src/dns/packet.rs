//! DNS messages: reading a question leniently, writing our answers, and fitting both ours and relayed ones into what
//! the client can take.
//!
//! Only header and question of a request are required to make sense; what follows is looked at for the EDNS size and
//! otherwise left to whoever answers, so that record types we never heard of pass untouched.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::answer::DOMAIN;

/// Seconds every record of ours may be kept.
const TTL: u32 = 1;
/// What a client without EDNS takes over UDP.
const PLAIN_LIMIT: usize = 512;
/// What we say we take over UDP.
const OUR_PAYLOAD: u16 = 1232;
const HEADER_LENGTH: usize = 12;

/// What a packet asks.
#[derive(Debug)]
pub enum Asked {
    Question(Box<Question>),
    /// Nothing we can look up: this is the reply.
    Reply(Vec<u8>),
    /// Too short, or itself an answer: silence.
    Nothing,
}

/// One question, with what the reply must repeat.
#[derive(Clone, Debug)]
pub struct Question {
    id: u16,
    recursion_desired: bool,
    query: Query,
    /// UDP size of the client; `None` without EDNS.
    payload: Option<u16>,
    /// The name in lower case without final dot; `None` when no name of ours can look like that.
    pub name: Option<String>,
    /// Below our domain, whatever its labels hold.
    pub is_ours: bool,
}

impl Question {
    pub fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    pub fn is_internet_class(&self) -> bool {
        self.query.query_class() == DNSClass::IN
    }

    /// Longest reply the client takes over UDP.
    pub fn udp_limit(&self) -> usize {
        self.payload.map_or(PLAIN_LIMIT, |payload| usize::from(payload).max(PLAIN_LIMIT))
    }

    /// Owner name of the records that answer it.
    fn owner(&self) -> Name {
        self.query.name().to_lowercase()
    }
}

/// Reads a request.
pub fn read(packet: &[u8]) -> Asked {
    let mut decoder = BinDecoder::new(packet);
    let Ok(header) = Header::read(&mut decoder) else { return Asked::Nothing };
    if header.metadata.message_type != MessageType::Query {
        return Asked::Nothing;
    }
    if header.metadata.op_code != OpCode::Query {
        return Asked::Reply(bare_reply(packet, ResponseCode::NotImp));
    }
    if header.counts.queries != 1 {
        return Asked::Reply(bare_reply(packet, ResponseCode::ServFail));
    }
    let Ok(query) = Query::read(&mut decoder) else {
        return Asked::Reply(bare_reply(packet, ResponseCode::FormErr));
    };
    Asked::Question(Box::new(Question {
        id: header.metadata.id,
        recursion_desired: header.metadata.recursion_desired,
        payload: read_payload(&mut decoder, &header),
        name: key(query.name()),
        is_ours: is_ours(query.name()),
        query,
    }))
}

/// The client's EDNS size, when all that follows the question can be read.
fn read_payload(decoder: &mut BinDecoder<'_>, header: &Header) -> Option<u16> {
    let counts = [header.counts.answers, header.counts.authorities].map(usize::from);
    for count in counts {
        Message::read_records(decoder, count, false, OpCode::Query).ok()?;
    }
    let additionals = usize::from(header.counts.additionals);
    let (_, edns, _) = Message::read_records(decoder, additionals, true, OpCode::Query).ok()?;
    edns.map(|edns| edns.max_payload())
}

/// The text names are looked up by. Labels with dots or bytes beyond printable ASCII are in no name of ours.
fn key(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            match byte {
                b'.' | 0..=0x20 | 0x7f.. => return None,
                printable => text.push(char::from(printable.to_ascii_lowercase())),
            }
        }
    }
    Some(text)
}

fn is_ours(name: &Name) -> bool {
    let ours = DOMAIN.split('.').rev();
    name.num_labels() >= 2 && name.iter().rev().zip(ours).all(|(label, own)| label.eq_ignore_ascii_case(own.as_bytes()))
}

/// Records of ours, as they go into the answer section.
#[derive(Clone, Debug, Default)]
pub struct Answers(Vec<Record>);

impl Answers {
    /// A records for the name asked, in the order `seed` shuffles them to.
    pub fn addresses(question: &Question, found: &[Ipv4Addr], seed: u64) -> Answers {
        let mut answers = Answers::default();
        answers.push_addresses(question.owner(), found, seed);
        answers
    }

    /// CNAMEs from the name asked through `targets`. `None` when a target is no valid name.
    pub fn chain(question: &Question, targets: &[&str]) -> Option<Answers> {
        let mut answers = Answers::default();
        let mut owner = question.owner();
        for target in targets {
            let target = absolute(target)?;
            answers.0.push(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target.clone()))));
            owner = target;
        }
        Some(answers)
    }

    /// A records of the end of the chain.
    pub fn with_addresses_of(mut self, target: &str, found: &[Ipv4Addr], seed: u64) -> Answers {
        if let Some(owner) = absolute(target) {
            self.push_addresses(owner, found, seed);
        }
        self
    }

    /// What an upstream server said about the end of the chain; `None` when that is nothing.
    pub fn with_answers_of(mut self, response: &[u8]) -> Option<Answers> {
        let message = Message::from_vec(response).ok()?;
        let is_positive = message.metadata.response_code == ResponseCode::NoError && !message.answers.is_empty();
        self.0.extend(message.answers);
        is_positive.then_some(self)
    }

    fn push_addresses(&mut self, owner: Name, found: &[Ipv4Addr], seed: u64) {
        let mut found = found.to_vec();
        shuffle(&mut found, seed);
        let records = found.into_iter().map(|address| Record::from_rdata(owner.clone(), TTL, RData::A(A(address))));
        self.0.extend(records);
    }
}

/// A positive answer, also an empty one.
pub fn write_answers(question: &Question, answers: Answers, limit: usize) -> Vec<u8> {
    let mut message = reply(question, ResponseCode::NoError);
    message.metadata.authoritative = true;
    message.metadata.recursion_available = true;
    message.answers = answers.0;
    write(question, message, limit)
}

/// Nothing of that type (`NoError`) or of that name (`NXDomain`) below our domain: the SOA in the authority section.
pub fn write_negative(question: &Question, code: ResponseCode, revision: i64, limit: usize) -> Vec<u8> {
    let mut message = reply(question, code);
    message.metadata.authoritative = true;
    message.authorities.extend(soa(revision));
    write(question, message, limit)
}

/// Our domain's SOA as the answer.
pub fn write_soa(question: &Question, revision: i64, limit: usize) -> Vec<u8> {
    write_answers(question, Answers(soa(revision).into_iter().collect()), limit)
}

/// Only a code.
pub fn write_code(question: &Question, code: ResponseCode, limit: usize) -> Vec<u8> {
    let mut message = reply(question, code);
    message.metadata.recursion_available = true;
    write(question, message, limit)
}

/// A question of our own for the A records of `name`; `None` when that is no valid name.
pub fn write_question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(absolute(name)?, RecordType::A));
    message.to_vec().ok()
}

/// A relayed response as the client gets it: AAAA never says NXDOMAIN (musl and others give up on the whole name), and
/// nothing is longer than the client takes.
pub fn adapt_relayed(question: &Question, mut response: Vec<u8>, limit: usize) -> Vec<u8> {
    if question.kind() == RecordType::AAAA && response.len() >= HEADER_LENGTH && response[3] & 0x0f == 3 {
        response[3] &= 0xf0;
    }
    if response.len() <= limit {
        return response;
    }
    let Ok(message) = Message::from_vec(&response) else {
        let mut empty = reply(question, ResponseCode::NoError);
        empty.metadata.truncation = true;
        return write(question, empty, limit);
    };
    write(question, message, limit)
}

/// The response belongs to the request: same id, and an answer.
pub fn is_response_to(request: &[u8], response: &[u8]) -> bool {
    response.len() >= HEADER_LENGTH && request.get(..2) == response.get(..2) && response[2] & 0x80 != 0
}

/// The sender left something out because UDP was too small.
pub fn is_truncated(response: &[u8]) -> bool {
    response.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

fn reply(question: &Question, code: ResponseCode) -> Message {
    let mut message = Message::response(question.id, OpCode::Query);
    message.metadata.recursion_desired = question.recursion_desired;
    message.metadata.response_code = code;
    message.add_query(question.query.clone());
    if question.payload.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_PAYLOAD).set_version(0);
        message.set_edns(edns);
    }
    message
}

/// Too long: first without the additional section, then empty with TC.
fn write(question: &Question, mut message: Message, limit: usize) -> Vec<u8> {
    let fitting = |message: &Message| message.to_vec().ok().filter(|bytes| bytes.len() <= limit);
    if let Some(bytes) = fitting(&message) {
        return bytes;
    }
    message.additionals.clear();
    if let Some(bytes) = fitting(&message) {
        return bytes;
    }
    fitting(&message.truncate()).unwrap_or_else(|| bare(question.id, 0, ResponseCode::ServFail))
}

fn soa(revision: i64) -> Option<Record> {
    let name = absolute(DOMAIN)?;
    // Serials are compared in 32-bit ring arithmetic: cutting a revision off keeps them increasing.
    let serial = (revision & i64::from(u32::MAX)) as u32;
    Some(Record::from_rdata(name.clone(), TTL, RData::SOA(SOA::new(name.clone(), name, serial, 60, 10, 86_400, 1))))
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A reply without question, for requests that cannot be read further.
fn bare_reply(request: &[u8], code: ResponseCode) -> Vec<u8> {
    let id = request.get(..2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
    bare(id, request.get(2).map_or(0, |flags| flags & 0x79), code)
}

fn bare(id: u16, kept_flags: u8, code: ResponseCode) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LENGTH];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes[2] = 0x80 | kept_flags;
    bytes[3] = 0x80 | code.low();
    bytes
}

/// Fisher and Yates, one step of splitmix64 per place: one random number from the seam orders a whole list.
fn shuffle(found: &mut [Ipv4Addr], mut seed: u64) {
    for last in (1..found.len()).rev() {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        found.swap(last, ((u128::from(mixed) * (last as u128 + 1)) >> 64) as usize);
    }
}

/// The code of a response, for tests and counting.
pub fn code_of(response: &[u8]) -> Option<u8> {
    response.get(3).map(|flags| flags & 0x0f)
}
