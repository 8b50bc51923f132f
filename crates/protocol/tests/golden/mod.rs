//! Golden frames: files of bytes that another program than the codec has written, from the page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::{Bytes, BytesMut};
use protocol::immortal::{HELLO_BYTES_MAX, split_frame};

/// A folder below `api/`.
pub(crate) struct Golden(pub(crate) &'static str);

impl Golden {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api").join(self.0)
    }

    /// The bytes in a file: two hex digits each; from `#` on it is for people.
    pub(crate) fn bytes(&self, name: &str) -> Bytes {
        let path = self.folder().join(format!("{name}.txt"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let digits =
            text.lines().flat_map(|line| line.split('#').take(1).flat_map(str::split_whitespace));
        digits.map(|two| u8::from_str_radix(two, 16).expect("two hex digits")).collect()
    }

    /// Each file is one of these, and each of these has a file.
    pub(crate) fn check_names<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let wanted: BTreeSet<String> = names.map(|name| format!("{name}.txt")).collect();
        let files = fs::read_dir(self.folder()).expect("the folder of the golden frames");
        let name = |file: io::Result<fs::DirEntry>| {
            let name = file.expect("an entry of that folder").file_name();
            name.into_string().expect("a name of UTF-8")
        };
        let found: BTreeSet<String> = files.map(name).collect();
        assert_eq!(found, wanted);
    }
}

/// The one frame in these bytes, without its length.
pub(crate) fn only_frame(bytes: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(bytes);
    let frame = split_frame(&mut bytes, HELLO_BYTES_MAX).ok().flatten().expect("a whole frame");
    assert!(bytes.is_empty(), "more than one frame");
    frame
}
