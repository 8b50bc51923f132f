//! A binding that reads and writes as AMBROSIA's C# binding does, with its peculiarities: it looks
//! at one message only in the first record, and a batch of one breaks it.

use crate::wire::{
    Record, checkpoint, fork, impulse, message, take_message, take_record, take_zigzag,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    Server,
    Client,
}

/// What the program keeps, and its checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) messages: Vec<String>,
    pub(crate) upgraded: bool,
}

#[derive(Debug)]
pub(crate) struct Binding {
    app: App,
    pub(crate) state: State,
    pub(crate) first_starts: usize,
    pub(crate) becomings: usize,
    pub(crate) upgrades: usize,
    started: bool,
    heard: Vec<u8>,
    /// Bytes of a checkpoint that are still to come.
    loading: Option<usize>,
    said: Vec<u8>,
}

impl Binding {
    pub(crate) fn new(app: App) -> Self {
        Self {
            app,
            state: State::default(),
            first_starts: 0,
            becomings: 0,
            upgrades: 0,
            started: false,
            heard: Vec::new(),
            loading: None,
            said: Vec::new(),
        }
    }

    /// Reads what a coordinator wrote, and gives what it writes.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.heard.extend_from_slice(bytes);
        while self.load() {
            let Some(record) = take_record(&mut self.heard) else { break };
            self.record(&record);
        }
        std::mem::take(&mut self.said)
    }

    /// A key is pressed. Only a primary may send an impulse.
    pub(crate) fn press(&mut self, text: &str) -> Vec<u8> {
        assert!(self.becomings > 0, "Unable to send an Impulse RPC while not being primary.");
        impulse("", 3, text.as_bytes())
    }

    /// False: a checkpoint is not all there.
    fn load(&mut self) -> bool {
        match self.loading {
            Some(bytes) if self.heard.len() < bytes => false,
            Some(bytes) => {
                let state: Vec<u8> = self.heard.drain(..bytes).collect();
                let mut lines = std::str::from_utf8(&state).unwrap().lines();
                self.state.upgraded = lines.next() == Some("upgraded");
                self.state.messages = lines.map(str::to_owned).collect();
                self.loading = None;
                true
            }
            None => true,
        }
    }

    fn save(&mut self) {
        let first = if self.state.upgraded { "upgraded" } else { "original" };
        let lines: Vec<&str> =
            [first].into_iter().chain(self.state.messages.iter().map(String::as_str)).collect();
        self.said.extend(checkpoint(lines.join("\n").as_bytes()));
    }

    fn record(&mut self, record: &Record) {
        let mut payload = &record.payload[..];
        let first = !std::mem::replace(&mut self.started, true);
        let mut messages = 0;
        while !payload.is_empty() {
            let (kind, data) = take_message(&mut payload);
            messages += 1;
            if first {
                assert!(kind == 8 || kind == 11, "illegal leading byte in first message");
            }
            self.message(kind, data, first);
        }
        assert!(messages == 1 || !first, "only one message of the first record is read");
    }

    fn message(&mut self, kind: u8, data: &[u8], first: bool) {
        match kind {
            0 => self.rpc(data),
            2 => self.save(),
            5 => {
                let mut rest = data;
                let count = take_zigzag(&mut rest);
                assert!(count > 1, "a batch of one is read wrongly");
                (0..count).for_each(|_| self.rpc(take_message(&mut rest).1));
            }
            8 => {
                let mut rest = data;
                self.loading = Some(usize::try_from(take_zigzag(&mut rest)).unwrap());
            }
            9 => {
                let mut rest = data;
                assert_eq!(usize::try_from(take_zigzag(&mut rest)).unwrap(), rest.len());
                assert_eq!(rest, b"hello");
                self.first_start();
            }
            11 => {
                if first {
                    self.said.extend(message(9, b"\x0ahello"));
                }
                self.save();
                self.becomings += 1;
            }
            10 => {
                self.upgrade();
                self.save();
                self.becomings += 1;
            }
            12 => self.upgrade(),
            15 => self.becomings += 1,
            other => panic!("illegal leading byte in message: {other}"),
        }
    }

    fn upgrade(&mut self) {
        self.upgrades += 1;
        self.state.upgraded = true;
    }

    fn first_start(&mut self) {
        self.first_starts += 1;
        if self.app == App::Client {
            self.said.extend(message(1, b"server"));
            for number in 1..=3 {
                let text = format!("Hello World {number}!");
                self.said.extend(fork("server", 1, text.as_bytes()));
            }
        }
    }

    fn rpc(&mut self, data: &[u8]) {
        assert_eq!(data[0], 0, "a call, not a return value");
        let mut rest = &data[1..];
        let method = take_zigzag(&mut rest);
        let text = std::str::from_utf8(&rest[1..]).unwrap();
        match (method, rest[0]) {
            (1, 1) => {
                let upper = self.state.upgraded;
                let text = if upper { text.to_uppercase() } else { text.to_owned() };
                self.state.messages.push(text);
                let count = u8::try_from(self.state.messages.len()).unwrap();
                self.said.extend(fork("client", 2, &[count]));
            }
            (3, 2) => {
                self.state.messages.push(text.to_owned());
                self.said.extend(fork("server", 1, text.as_bytes()));
            }
            // Its generated dispatcher passes over what it does not know.
            _ => {}
        }
    }
}
