//! The console: the page that a browser gets at `/`, and the files that the page is made of.
//!
//! The files are built from `console/` and committed, so a build of this crate needs no other
//! tool. They hold no data, so they are given to whoever asks; the page then speaks to the REST
//! surface as any other client, with the same rights.

use std::sync::LazyLock;

use blake2::{Blake2s256, Digest};
use bytes::Bytes;
use hyper::Method as Verb;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use protocol::base64url;

use crate::http_answer::{self, Answer, OfTheProgram};

/// The page; a browser gets it at `/`, too.
pub(crate) const PAGE: &str = "/core/console";

/// What a page may do in a browser. All of it comes from this node; no script and no style stands
/// in a page; no text becomes markup (`trusted-types`); no page of another site may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// A file of the console.
struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const FILES: [File; 4] = [
    File {
        path: PAGE,
        kind: "text/html; charset=utf-8",
        bytes: include_bytes!("../console/index.html"),
    },
    File {
        path: "/core/console/app.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../console/app.js"),
    },
    File {
        path: "/core/console/app.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../console/app.css"),
    },
    File {
        path: "/core/console/icon.svg",
        kind: "image/svg+xml",
        bytes: include_bytes!("../console/icon.svg"),
    },
];

/// An entity tag for each file: a browser that has this very file is not sent it again.
static TAGS: LazyLock<[HeaderValue; FILES.len()]> = LazyLock::new(|| {
    FILES.map(|file| {
        let digest = base64url::encode(&Blake2s256::digest(file.bytes)[..12]);
        HeaderValue::from_str(&format!("\"{digest}\"")).expect("base64url is plain ASCII")
    })
});

/// Each file packed, once for all.
static PACKED: LazyLock<[Option<Bytes>; FILES.len()]> =
    LazyLock::new(|| FILES.map(|file| http_answer::deflate(file.bytes)));

/// The path of the console's file that is asked for: by its path, or by a browser at `/`.
/// `None`: it is not of the console.
pub(crate) fn path(verb: &Verb, path: &str, asked: &HeaderMap) -> Option<&'static str> {
    let looks = *verb == Verb::GET || *verb == Verb::HEAD;
    if path == "/" && looks && takes_html(asked) {
        return Some(PAGE);
    }
    FILES.iter().find(|file| file.path == path).map(|file| file.path)
}

/// Whether the client asks for a page by name. A client that takes anything (`*/*`) is a program
/// as a rule, and gets what it always got.
fn takes_html(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT).iter();
    let mut parts = values.filter_map(|value| value.to_str().ok()).flat_map(|it| it.split(','));
    parts.any(|part| {
        let mut words = part.split(';').map(str::trim);
        let is_html = words.next().is_some_and(|name| name.eq_ignore_ascii_case("text/html"));
        let weight = words.find_map(|word| word.strip_prefix("q=")).unwrap_or("1");
        is_html && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
    })
}

/// The file at one of the console's paths; `None` where there is none.
pub(crate) fn answer(path: &str) -> Option<Answer> {
    let at = FILES.iter().position(|file| file.path == path)?;
    let file = &FILES[at];
    let mut answer = Answer::new(Bytes::from_static(file.bytes));
    answer.extensions_mut().insert(OfTheProgram { packed: PACKED[at].clone() });
    let headers = answer.headers_mut();
    headers.insert(header::ETAG, TAGS[at].clone());
    for (name, value) in [
        (header::CONTENT_TYPE, file.kind),
        // Kept, and asked for again each time: after an upgrade no page has files of two versions.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // At `/` it depends on the client what it gets.
        (header::VARY, "Accept"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use node::Resource;
    use services::Catalogue;

    use super::*;

    fn asked(accept: &'static str) -> HeaderMap {
        [(header::ACCEPT, HeaderValue::from_static(accept))].into_iter().collect()
    }

    #[test]
    fn a_browser_gets_the_page_and_a_program_gets_what_it_always_got() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(path(&Verb::GET, "/", &asked(browser)), Some(PAGE));
        assert_eq!(path(&Verb::HEAD, "/", &asked("TEXT/HTML;q=0.5")), Some(PAGE));
        for program in ["*/*", "application/json", "text/*", "text/html;q=0", "text/html5", ""] {
            assert_eq!(path(&Verb::GET, "/", &asked(program)), None, "{program}");
        }
        assert_eq!(path(&Verb::GET, "/", &HeaderMap::new()), None);
        assert_eq!(path(&Verb::POST, "/", &asked(browser)), None);
        assert_eq!(path(&Verb::GET, "/core/examples", &asked(browser)), None);
    }

    #[test]
    fn the_files_are_those_of_the_table_and_a_page_names_no_others() {
        let catalogue = Catalogue::new();
        let console = Resource::at(PAGE, &catalogue).expect("it is in the table");
        let named: Vec<&str> = console.path.split(", ").collect();
        assert_eq!(named, FILES.map(|file| file.path));
        let page = std::str::from_utf8(FILES[0].bytes).expect("it is text");
        let links = page.split(['"', '\'']).filter(|text| text.starts_with('/'));
        let links: Vec<&str> = links.collect();
        assert!(links.len() >= 3, "{links:?}");
        assert!(links.iter().all(|link| named.contains(link)), "{links:?} of {named:?}");
        assert!(!page.contains("<style") && !page.contains(" style="), "the policy refuses it");
        assert_eq!(page.matches("<script").count(), page.matches("<script src=").count());
    }

    #[test]
    fn no_file_has_a_tag_of_another() {
        let tags: std::collections::BTreeSet<&str> =
            TAGS.iter().map(|tag| tag.to_str().expect("plain")).collect();
        assert_eq!(tags.len(), FILES.len());
    }
}
