//! The load: a fixed number of calls in flight over a few connections, and how long each takes.
//!
//! It shares two processors with what it measures, so it speaks as little HTTP/2 as the calls need, written by hand: a
//! client library costs more than the server's part of an empty call, and its speed would be measured instead. What
//! answers say in headers is not read here; [`crate::ask`] does so beforehand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;

use crate::calls::Calls;

/// Connections, each with a thread of its own.
pub const CONNECTIONS: usize = 4;
/// Calls in flight on each.
pub const IN_FLIGHT: usize = 8;
/// How long nothing may be heard from the server.
const SILENCE: Duration = Duration::from_secs(10);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a phase came to.
pub struct Timing {
    /// The whole phase.
    pub took: Duration,
    /// Nanoseconds of each call.
    pub latencies: Histogram<u64>,
}

/// Nanoseconds, to three digits.
///
/// # Errors
/// None: three digits are possible.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

/// Connections to where the calls are answered.
pub struct Load {
    calls: Calls,
    connections: Vec<Connection>,
}

impl Load {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(calls: Calls) -> anyhow::Result<Self> {
        let connections = (0..CONNECTIONS).map(|_| Connection::open(calls.address));
        Ok(Self {
            connections: connections.collect::<anyhow::Result<_>>()?,
            calls,
        })
    }

    /// Makes every call once.
    ///
    /// # Errors
    /// At the first call that fails, or is answered otherwise than expected.
    pub fn run(&mut self) -> anyhow::Result<Timing> {
        let (calls, next) = (&self.calls, &AtomicUsize::new(0));
        let start = Instant::now();
        let mut latencies = histogram()?;
        std::thread::scope(|scope| {
            let workers: Vec<_> = self
                .connections
                .iter_mut()
                .map(|connection| scope.spawn(move || connection.work(calls, next)))
                .collect();
            for worker in workers {
                let done = worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
                latencies.add(done?)?;
            }
            anyhow::Ok(())
        })?;
        Ok(Timing {
            took: start.elapsed(),
            latencies,
        })
    }
}

struct Connection {
    stream: TcpStream,
    next_stream: u32,
    received: Vec<u8>,
    send: Vec<u8>,
}

/// A call in flight.
struct Open {
    stream: u32,
    index: usize,
    start: Instant,
    answered: bool,
}

impl Connection {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut send = PREFACE.to_vec();
        frame(&mut send, SETTINGS, 0, 0, &[]);
        // The window of the whole connection, once for all: answers are small.
        frame(
            &mut send,
            WINDOW_UPDATE,
            0,
            0,
            &0x7000_0000_u32.to_be_bytes(),
        );
        Ok(Self {
            stream,
            next_stream: 1,
            received: Vec::new(),
            send,
        })
    }

    fn work(&mut self, calls: &Calls, next: &AtomicUsize) -> anyhow::Result<Histogram<u64>> {
        let mut latencies = histogram()?;
        let mut open: Vec<Open> = Vec::with_capacity(IN_FLIGHT);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            while open.len() < IN_FLIGHT {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(message) = calls.messages.get(index) else {
                    break;
                };
                open.push(self.call(calls, index, message));
            }
            self.stream.write_all(&self.send)?;
            self.send.clear();
            if open.is_empty() {
                return Ok(latencies);
            }
            let count = self.stream.read(&mut buffer).context("no answer")?;
            ensure!(count > 0, "the server closed the connection");
            self.received
                .extend_from_slice(buffer.get(..count).unwrap_or_default());
            self.take_in(calls, &mut open, &mut latencies)?;
        }
    }

    /// Adds a call to what is sent next.
    fn call(&mut self, calls: &Calls, index: usize, message: &[u8]) -> Open {
        let stream = self.next_stream;
        self.next_stream += 2;
        let head = head(calls, stream == 1);
        frame(&mut self.send, HEADERS, END_HEADERS, stream, &head);
        frame(&mut self.send, DATA, END_STREAM, stream, message);
        Open {
            stream,
            index,
            start: Instant::now(),
            answered: false,
        }
    }

    /// Works in the frames received whole.
    fn take_in(
        &mut self,
        calls: &Calls,
        open: &mut Vec<Open>,
        latencies: &mut Histogram<u64>,
    ) -> anyhow::Result<()> {
        let mut rest = self.received.as_slice();
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEAD>() {
            let &[a, b, c, kind, flags, s0, s1, s2, s3] = head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some((payload, after)) = after.split_at_checked(length) else {
                break;
            };
            rest = after;
            match kind {
                SETTINGS if flags & ACK == 0 => frame(&mut self.send, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut self.send, PING, ACK, 0, payload),
                GOAWAY | RST_STREAM => bail!("the server broke off (frame {kind}: {payload:?})"),
                DATA | HEADERS => {
                    let stream = u32::from_be_bytes([s0, s1, s2, s3]);
                    let at = open.iter().position(|call| call.stream == stream);
                    let at = at.with_context(|| format!("an answer on unused stream {stream}"))?;
                    answered(calls, open, at, kind, payload)?;
                    if flags & END_STREAM != 0 {
                        let call = open.swap_remove(at);
                        ensure!(call.answered, "call {} failed", call.index);
                        latencies.record(u64::try_from(call.start.elapsed().as_nanos())?)?;
                    }
                }
                _ => {}
            }
        }
        let done = self.received.len() - rest.len();
        self.received.drain(..done);
        Ok(())
    }
}

fn answered(
    calls: &Calls,
    open: &mut [Open],
    at: usize,
    kind: u8,
    payload: &[u8],
) -> anyhow::Result<()> {
    if let (DATA, Some(call)) = (kind, open.get_mut(at))
        && !payload.is_empty()
    {
        let wanted = calls.answers.get(call.index).context("no such call")?;
        ensure!(
            payload == wanted,
            "call {} was answered {payload:?}, not {wanted:?}",
            call.index
        );
        call.answered = true;
    }
    Ok(())
}

fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // Payloads are far below the limit of 24 bits.
    let [_, length @ ..] = u32::try_from(payload.len())
        .unwrap_or_default()
        .to_be_bytes();
    to.extend_from_slice(&length);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// A request's headers by HPACK. The first request of a connection names them for the table; later ones point there.
fn head(calls: &Calls, first: bool) -> Vec<u8> {
    const POST_HTTP: [u8; 2] = [0x83, 0x86];
    if !first {
        return [&POST_HTTP, [0xc1, 0xc0].as_slice(), &[0xbf, 0xbe]].concat();
    }
    let mut block = POST_HTTP.to_vec();
    let mut literal = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).unwrap_or_default());
        block.extend_from_slice(value.as_bytes());
    };
    literal(&[0x44], &calls.path);
    literal(&[0x41], &calls.address.to_string());
    literal(&[0x5f], "application/grpc");
    literal(&[0x40, 2, b't', b'e'], "trailers");
    block
}
