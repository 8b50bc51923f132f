//! As much of HTTP as a client needs here: one connection, one request at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// A connection to one node, made when it is needed.
#[derive(Debug)]
pub struct Client {
    to: SocketAddr,
    open: Option<BufReader<TcpStream>>,
}

impl Client {
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self { to, open: None }
    }

    /// None: no answer within `patience`, or the connection broke.
    pub fn ask(
        &mut self,
        (method, path): (&str, &str),
        key: Option<&str>,
        body: Option<&Value>,
        patience: Duration,
    ) -> Option<Answer> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let socket = TcpStream::connect_timeout(&self.to, patience).ok()?;
                socket.set_nodelay(true).ok()?;
                BufReader::new(socket)
            }
        };
        open.get_ref().set_read_timeout(Some(patience)).ok()?;
        let body = body.map_or(String::new(), Value::to_string);
        let key = key.map_or(String::new(), |key| format!("Idempotency-Key: {key}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{key}\
             Content-Length: {}\r\n\r\n{body}",
            self.to,
            body.len()
        );
        open.get_mut().write_all(head.as_bytes()).ok()?;
        let answer = read(&mut open)?;
        self.open = Some(open);
        Some(answer)
    }
}

fn read(open: &mut BufReader<TcpStream>) -> Option<Answer> {
    let mut line = String::new();
    open.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        open.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let header = line.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    open.read_exact(&mut body).ok()?;
    Some(Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}
