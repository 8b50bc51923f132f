//! Changes of documents as Server-Sent Events (the HTML standard, section 9.2).
//!
//! A stream is nothing but the question for the next changes, asked again and again: the node keeps
//! no state for it. The next question is asked when the client has taken what came before, so that
//! a client that is slow holds up only itself. Each event carries a token as its id, with which any
//! node of the cluster can go on.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use protocol::{Method, Request};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use crate::budget::{Budget, Purpose};
use crate::caller::Caller;
use crate::connections::{Meter, UnderWay};
use crate::http_answer::Answer;
use crate::in_flight::OneMore;
use crate::login::Doorkeeper;
use crate::taking::{Owed, Pieces};

/// What a client sends again after a break: the id of the last event it has seen.
const LAST_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How long one question waits for a change, in seconds; then the client hears at least a token, so
/// that it knows that the stream lives.
const WAIT_SECONDS: &str = "15";

/// How many answers of the node may wait for the client to take them.
const ANSWERS_MAX: usize = 1;

/// The body of an answer: all of it, or what comes by and by.
pub(crate) type Body = Either<Pieces, EventStream>;

/// The events of a stream. It ends when the client has gone, or the node stops.
pub(crate) struct EventStream {
    events: mpsc::Receiver<Pieces>,
    /// What is being handed on.
    now: Pieces,
    /// The connection is not idle as long as this lives.
    _under_way: Option<UnderWay>,
}

/// A stream on its way through the answers, which have whole bodies otherwise.
#[derive(Clone)]
struct Begun(Arc<std::sync::Mutex<Option<mpsc::Receiver<Pieces>>>>);

/// Whom changes are asked of, and for whom.
pub(crate) struct Source {
    pub(crate) keeper: Arc<Doorkeeper>,
    /// What waits for the client is in this account.
    pub(crate) budget: Arc<Budget>,
    /// The stream counts as a request under way, and what waits for the client is of its share.
    pub(crate) client: Option<Arc<OneMore>>,
    /// What waits for the client has a deadline there.
    pub(crate) meter: Arc<Meter>,
    pub(crate) caller: Caller,
    /// Changes when the node stops: then the stream ends at once.
    pub(crate) closing: watch::Receiver<()>,
}

/// What the node answers.
#[derive(Deserialize)]
struct Changes<'a> {
    #[serde(borrow)]
    changes: Vec<&'a RawValue>,
    token: &'a str,
}

#[derive(Deserialize)]
struct Change<'a> {
    token: &'a str,
}

/// Whether a client asks for changes as events.
pub(crate) fn are_asked(headers: &HeaderMap, request: &Request) -> bool {
    let takes = headers.get_all(header::ACCEPT).iter().any(|value| {
        let mut types = value.to_str().unwrap_or_default().split(',');
        types.any(|it| it.split(';').next().is_some_and(|it| it.trim() == "text/event-stream"))
    });
    takes && request.method == Method::Get && node::is_watch(request)
}

/// Puts the client's last id in the place of `after`.
pub(crate) fn put_last_id(headers: &HeaderMap, request: &mut Request) {
    if let Some(id) =
        headers.get(LAST_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty())
    {
        put(request, "after", id);
    }
}

/// The first answer is there: the rest of the stream is asked for behind it. An error is answered
/// as it is.
pub(crate) fn stream(first: Answer, request: Request, source: Source) -> Answer {
    if !first.status().is_success() {
        return first;
    }
    let Some((begin, token)) = as_events(first.body()) else { return first };
    let Some(begin) = source.hold(begin) else { return first };
    let (sender, events) = mpsc::channel(ANSWERS_MAX);
    tokio::spawn(async move {
        if sender.send(begin).await.is_ok() {
            go_on(&sender, request, token, source).await;
        }
    });
    let mut answer = Answer::new(Bytes::new());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.extensions_mut().insert(Begun(Arc::new(std::sync::Mutex::new(Some(events)))));
    answer
}

async fn go_on(
    sender: &mpsc::Sender<Pieces>,
    mut request: Request,
    mut token: String,
    mut source: Source,
) {
    put(&mut request, "wait", WAIT_SECONDS);
    loop {
        put(&mut request, "after", &token);
        let answer = tokio::select! {
            answer = source.keeper.take(request.clone(), &source.caller) => answer,
            () = sender.closed() => return,
            _ = source.closing.changed() => return,
        };
        let events = match as_events(answer.body()) {
            Some((events, next)) if answer.status().is_success() => {
                token = next;
                events
            }
            // The client comes again with its last id, here or elsewhere, and hears why.
            _ => {
                let why = String::from_utf8_lossy(answer.body()).replace('\n', " ");
                if let Some(why) = source.hold(format!("event: error\ndata: {why}\n\n")) {
                    drop(sender.send(why).await);
                }
                return;
            }
        };
        // A client that takes nothing has no room for more; it comes again with its last id.
        let Some(events) = source.hold(events) else { return };
        if sender.send(events).await.is_err() {
            return;
        }
    }
}

impl Source {
    /// Counts what is there for the client until it is taken, if there is room for it.
    fn hold(&self, text: String) -> Option<Pieces> {
        let share = self.client.as_ref().map(|client| Arc::clone(&client.share));
        let mut held = self.budget.open(Purpose::Answer).of(share);
        let has_room = held.grow_by_answer(text.len(), false);
        let owed =
            || Owed { _held: held, _client: self.client.clone(), offer: self.meter.offers() };
        has_room.then(|| Pieces::of(Bytes::from(text), owed()))
    }
}

/// An answer of the node as events, and the token that it ends with. `None` if it is none.
fn as_events(body: &[u8]) -> Option<(String, String)> {
    let Changes { changes, token } = serde_json::from_slice(body).ok()?;
    let mut text = String::with_capacity(body.len() + 64);
    let mut last = None;
    for change in changes {
        let Change { token } = serde_json::from_str(change.get()).ok()?;
        text.push_str(&format!("id: {token}"));
        last = Some(token.to_owned());
        for line in change.get().lines() {
            text.push_str("\ndata: ");
            text.push_str(line);
        }
        text.push_str("\n\n");
    }
    if last.as_deref() != Some(token) {
        // Without data it is no event for the client, but the id counts.
        text.push_str(&format!("id: {token}\n\n"));
    }
    let token = token.to_owned();
    Some((text, token))
}

/// Sets a parameter.
fn put(request: &mut Request, name: &str, value: &str) {
    let is_it = |pair: &&str| {
        let key = pair.split('=').next().unwrap_or_default();
        key.strip_prefix('$').or(key.strip_prefix("%24")).unwrap_or(key) == name
    };
    let others = request.query.split('&').filter(|pair| !pair.is_empty() && !is_it(pair));
    // A token has only letters, digits, '-' and '_'; what else a client sends is no token.
    let value: String = value.chars().filter(|it| it.is_ascii_graphic() && *it != '&').collect();
    let pairs: Vec<String> = others.map(str::to_owned).chain([format!("{name}={value}")]).collect();
    request.query = pairs.join("&");
}

/// The answer with its body, or with the stream that was begun for it.
pub(crate) fn with_body(
    mut answer: Answer,
    under_way: UnderWay,
    owed: Owed,
) -> hyper::Response<Body> {
    let begun = answer.extensions_mut().remove::<Begun>();
    let events = begun.and_then(|Begun(events)| events.lock().expect("nobody panics here").take());
    match events {
        Some(events) => {
            let stream =
                EventStream { events, now: Pieces::default(), _under_way: Some(under_way) };
            answer.map(|_| Either::Right(stream))
        }
        None => answer.map(|body| Either::Left(Pieces::of(body, owed))),
    }
}

impl HttpBody for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(piece) = self.now.next() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match ready!(self.events.poll_recv(context)) {
                Some(events) => self.now = events,
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_an_event_with_its_token() {
        let body = br#"{"changes":[{"link":"/a","document":{"n":117.63331139400017,
"m":1},"token":"one"},{"link":"/b","token":"two"}],"token":"end"}"#;
        let (events, token) = as_events(body).unwrap();
        assert_eq!(token, "end");
        assert_eq!(
            events,
            "id: one\ndata: {\"link\":\"/a\",\"document\":{\"n\":117.63331139400017,\ndata: \
             \"m\":1},\"token\":\"one\"}\n\nid: two\ndata: {\"link\":\"/b\",\"token\":\"two\"}\n\n\
             id: end\n\n"
        );
        assert!(as_events(b"{\"message\":\"no\"}").is_none());
    }

    #[test]
    fn the_last_id_takes_the_place_of_after() {
        let headers: HeaderMap = [(LAST_ID, HeaderValue::from_static("new"))].into_iter().collect();
        let mut request = Request::get("/core/examples?watch=true&$after=old&$filter=a%20eq%201");
        put_last_id(&headers, &mut request);
        assert_eq!(request.query, "watch=true&$filter=a%20eq%201&after=new");
        put_last_id(&HeaderMap::new(), &mut request);
        assert_eq!(request.parameter("after").as_deref(), Some("new"));
    }

    #[test]
    fn events_are_for_those_who_accept_them() {
        let of = |accept: &'static str, method, query: &str| {
            let accept = HeaderValue::from_static(accept);
            let headers: HeaderMap = [(header::ACCEPT, accept)].into_iter().collect();
            let path = format!("/core/examples{query}");
            are_asked(&headers, &Request { method, ..Request::get(&path) })
        };
        assert!(of("text/event-stream", Method::Get, "?watch=true"));
        assert!(!of("text/event-stream", Method::Get, ""));
        assert!(of("application/json;q=0.1, text/event-stream;q=1", Method::Get, "?watch"));
        assert!(!of("application/json", Method::Get, "?watch=true"));
        assert!(!of("text/event-stream", Method::Post, "?watch=true"));
    }
}
