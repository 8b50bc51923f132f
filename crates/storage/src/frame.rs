//! Frames: how the bytes of one append lie in sectors of 512 bytes, so that what never arrived can
//! be told from what was damaged later.
//!
//! A frame begins at a sector and fills whole sectors. Each sector is a mark, a checksum, 506 bytes
//! of body and the mark again. The checksum is seeded with the segment's salt, the frame's number
//! and the sector's place in it, so a sector that belongs elsewhere never fits. The area beyond the
//! last frame is all zeros. So of a write that did not come to its end each sector is good, or all
//! zeros, or (torn inside) has a zero where one of its marks should be; a sector with both marks
//! and a wrong checksum did arrive and was damaged later.
//!
//! The first sector's body begins with a header, whose own checksum covers those of all other
//! sectors, and which names the frame before it.
//!
//! Where the log is encrypted, each sector's part of the payload is sealed by itself, and its proof
//! (16 bytes) stands before the last mark. In the first sector the header stays in the clear, as
//! nothing of the payload is in it, and the stamp that the keys come from follows it. The checksums
//! are over what is on the disk. So what is missing, torn or damaged is found out without any key.

use crc32fast::Hasher;
use protocol::hash::scatter;

use crate::seal::{FrameSeal, Opener, STAMP_BYTES, Sealer, Stamp, TAG_BYTES};

/// What a disk writes whole or not at all, nearly always.
pub(crate) const SECTOR: usize = 512;
/// The same as an offset.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// The longest payload of a frame, in bytes. More than any caller's bound on one append; it keeps
/// a length that nobody wrote from asking for all memory.
pub(crate) const FRAME_BYTES_MAX: usize = 256 << 20;

/// How much memory a buffer may keep from one append to the next, in bytes.
const KEPT_BYTES: usize = 1 << 20;

const MARK: u8 = 0xa5;
/// Where the body of a sector begins: after the mark and the checksum.
const BODY: usize = 5;
/// Where it ends: before the last mark.
const BODY_END: usize = SECTOR - 1;
/// Magic u32, length u32, number u64, former frame u32, other sectors u32.
const HEADER_BYTES: usize = 24;
const MAGIC: u32 = 0x4652_4d41;

/// The place of a frame in the whole log: it counts through all segments, from 1.
pub(crate) type Number = u64;

/// What is in the header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) magic_fits: bool,
    /// Of the payload, in bytes.
    pub(crate) length: u32,
    pub(crate) number: Number,
    /// The checksum of the first sector of the frame before, 0 for the first of all.
    pub(crate) former: u32,
    /// The checksum over the checksums of all sectors but the first.
    pub(crate) others: u32,
}

/// Where a frame goes: what its checksums are seeded with, and its seal is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePlace {
    pub(crate) segment: u64,
    /// That of the segment.
    pub(crate) salt: u64,
    pub(crate) number: Number,
    /// See [`Header::former`].
    pub(crate) former: u32,
}

/// How much of the sectors of a frame is payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// What stands before the payload in the body of the first sector, in bytes.
    head: usize,
    /// Where the payload ends in each sector.
    end: usize,
}

impl Shape {
    pub(crate) const CLEAR: Self = Self { head: HEADER_BYTES, end: BODY_END };
    pub(crate) const SEALED: Self =
        Self { head: HEADER_BYTES + STAMP_BYTES, end: BODY_END - TAG_BYTES };

    /// How many sectors a frame with that many bytes of payload has.
    pub(crate) fn sectors(self, payload: usize) -> usize {
        (self.head + payload).div_ceil(self.end - BODY)
    }

    /// In which sector of its frame a byte of the payload lies, and where in that sector's part of
    /// the payload.
    pub(crate) fn locate(self, within: usize) -> (usize, usize) {
        let bytes = self.end - BODY;
        let (index, at) = ((self.head + within) / bytes, (self.head + within) % bytes);
        if index == 0 { (0, within) } else { (index, at) }
    }
}

/// What a sector turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it was written.
    Good,
    /// It never arrived, or only in part.
    Missing,
    /// It did arrive, and is not what was written, or not for this place.
    Damaged,
}

/// The checksum of the sector that is at place `index` of a frame.
fn checksum(sector: &[u8], salt: u64, number: Number, index: usize) -> u32 {
    let index = u64::try_from(index).expect("the index of a sector fits");
    let seed = mix(mix(salt ^ number) ^ index);
    let mut hasher = Hasher::new_with_initial(u32::try_from(seed >> 32).expect("32 bits are left"));
    hasher.update(&sector[BODY..BODY_END]);
    hasher.finalize()
}

/// Spreads the bits of a number over all 64, those of 0 as well (a step of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    scatter(number.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// Judges a sector for the place `index` of the frame `number`.
pub(crate) fn judge(sector: &[u8], salt: u64, number: Number, index: usize) -> Verdict {
    let (first, last) = (sector[0], sector[SECTOR - 1]);
    if first == MARK && last == MARK && stored(sector) == checksum(sector, salt, number, index) {
        Verdict::Good
    } else if first == 0 || last == 0 {
        Verdict::Missing
    } else {
        Verdict::Damaged
    }
}

/// The checksum that a sector carries.
pub(crate) fn stored(sector: &[u8]) -> u32 {
    u32_at(sector, 1)
}

/// The header in a first sector; means something only when the sector is good.
pub(crate) fn header(first: &[u8]) -> Header {
    let body = &first[BODY..BODY_END];
    Header {
        magic_fits: u32_at(body, 0) == MAGIC,
        length: u32_at(body, 4),
        number: u64_at(body, 8),
        former: u32_at(body, 16),
        others: u32_at(body, 20),
    }
}

/// The header and the place of a frame: what its sectors are bound to when they are sealed.
fn about(first: &[u8], number: Number) -> [u8; HEADER_BYTES + 8] {
    let mut about = [0; HEADER_BYTES + 8];
    about[..HEADER_BYTES].copy_from_slice(&first[BODY..BODY + HEADER_BYTES]);
    about[HEADER_BYTES..].copy_from_slice(&number.to_le_bytes());
    about
}

/// Takes the payload out of the sectors of one frame.
pub(crate) struct Payload {
    shape: Shape,
    /// For a sealed frame: its seal, and what its first sector is bound to.
    seal: Option<(FrameSeal, [u8; HEADER_BYTES + 8])>,
    number: Number,
    opened: [u8; SECTOR],
}

impl Payload {
    /// Of the frame with this first sector, which is good. With an opener it is a sealed one.
    pub(crate) fn of(first: &[u8], segment: u64, opener: Option<&mut Opener>) -> Self {
        let number = header(first).number;
        let stamp = &first[BODY + HEADER_BYTES..][..STAMP_BYTES];
        let seal =
            opener.map(|opener| (opener.frame(segment, Stamp::read(stamp)), about(first, number)));
        let shape = if seal.is_some() { Shape::SEALED } else { Shape::CLEAR };
        Self { shape, seal, number, opened: [0; SECTOR] }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// What of the payload is in that sector, which is good. Nothing when somebody has changed it
    /// who does not know the key.
    pub(crate) fn part<'a>(&'a mut self, sector: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let begin = if index == 0 { BODY + self.shape.head } else { BODY };
        let Some((seal, about)) = &self.seal else { return Some(&sector[begin..self.shape.end]) };
        let about = if index == 0 { &about[..] } else { &self.number.to_le_bytes() };
        let part = &mut self.opened[begin..BODY_END];
        part.copy_from_slice(&sector[begin..BODY_END]);
        seal.open(index, about, part)
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were cut out"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut out"))
}

/// Builds a frame in the form in which it is written. Used again for the next one.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    shape: Shape,
    /// Whole sectors, but for the last while the frame is being built.
    bytes: Vec<u8>,
    payload: usize,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::of(Shape::CLEAR)
    }
}

impl FrameBuffer {
    pub(crate) fn of(shape: Shape) -> Self {
        Self { shape, bytes: Vec::new(), payload: 0 }
    }

    pub(crate) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.bytes.extend_from_slice(&[MARK, 0, 0, 0, 0]);
        self.bytes.resize(BODY + self.shape.head, 0);
        self.payload = 0;
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        self.payload += bytes.len();
        while !bytes.is_empty() {
            let at = self.bytes.len() % SECTOR;
            if at == self.shape.end {
                self.close_sector();
                self.bytes.extend_from_slice(&[MARK, 0, 0, 0, 0]);
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.shape.end - at));
            self.bytes.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Fills the last sector up.
    fn close_sector(&mut self) {
        let body_end = self.bytes.len().next_multiple_of(SECTOR) - 1;
        self.bytes.resize(body_end, 0);
        self.bytes.push(MARK);
    }

    /// Seven bits a byte, the least first.
    pub(crate) fn put_number(&mut self, mut number: u64) {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            let low = u8::try_from(number & 0x7f).expect("seven bits fit");
            number >>= 7;
            bytes[length] = if number == 0 { low } else { low | 0x80 };
            length += 1;
            if number == 0 {
                break;
            }
        }
        self.put(&bytes[..length]);
    }

    /// How much payload it has so far, in bytes.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload
    }

    /// How long the frame will be on disk, in bytes.
    pub(crate) fn written_bytes(&self) -> u64 {
        u64::try_from(self.shape.sectors(self.payload) * SECTOR)
            .expect("the length of a buffer fits")
    }

    /// Fills the last sector up, seals it if need be, and sets header and checksums. Gives the
    /// checksum of the first sector, by which the next frame names this one.
    pub(crate) fn finish(&mut self, place: FramePlace, sealer: Option<&mut Sealer>) -> u32 {
        assert!(self.payload <= FRAME_BYTES_MAX, "one append is longer than a frame may be");
        assert!(sealer.is_some() == (self.shape == Shape::SEALED), "it is sealed or it is not");
        self.close_sector();
        let FramePlace { segment, salt, number, former } = place;
        let seal = sealer.map(|sealer| sealer.frame(segment));
        let (first, others) = self.bytes.split_at_mut(SECTOR);
        let mut of_others = Hasher::new();
        for (index, sector) in others.chunks_exact_mut(SECTOR).enumerate() {
            if let Some(seal) = &seal {
                seal.seal(index + 1, &number.to_le_bytes(), &mut sector[BODY..BODY_END]);
            }
            let sum = checksum(sector, salt, number, index + 1).to_le_bytes();
            sector[1..BODY].copy_from_slice(&sum);
            of_others.update(&sum);
        }
        let length = u32::try_from(self.payload).expect("FRAME_BYTES_MAX fits");
        let header = &mut first[BODY..BODY + HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8..16].copy_from_slice(&number.to_le_bytes());
        header[16..20].copy_from_slice(&former.to_le_bytes());
        header[20..].copy_from_slice(&of_others.finalize().to_le_bytes());
        if let Some(seal) = &seal {
            seal.stamp.write(&mut first[BODY + HEADER_BYTES..]);
            let about = about(first, number);
            seal.seal(0, &about, &mut first[BODY + self.shape.head..BODY_END]);
        }
        let sum = checksum(first, salt, number, 0);
        first[1..BODY].copy_from_slice(&sum.to_le_bytes());
        sum
    }

    /// The finished frame.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::DataKey;

    const PLACE: FramePlace = FramePlace { segment: 9, salt: 1, number: 2, former: 3 };

    fn frame(payload: &[u8]) -> FrameBuffer {
        let mut buffer = FrameBuffer::default();
        buffer.begin();
        buffer.put(payload);
        buffer.finish(PLACE, None);
        buffer
    }

    fn key() -> DataKey {
        DataKey::new(&[5; 32])
    }

    fn sealed(payload: &[u8]) -> FrameBuffer {
        let mut buffer = FrameBuffer::of(Shape::SEALED);
        buffer.begin();
        buffer.put(payload);
        buffer.finish(PLACE, Some(&mut Sealer::new(key(), [6; 16])));
        buffer
    }

    #[test]
    fn a_sealed_frame_of_any_length_is_opened_from_any_byte_on() {
        for length in [0, 1, 441, 442, 443, 931, 932, 933, 5000] {
            let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let buffer = sealed(&payload);
            let bytes = buffer.bytes();
            assert_eq!(u64::try_from(bytes.len()).unwrap(), buffer.written_bytes(), "{length}");
            let mut opener = Opener::new(key());
            let mut parts = Payload::of(bytes, PLACE.segment, Some(&mut opener));
            assert_eq!(parts.shape().sectors(length) * SECTOR, bytes.len());
            let mut read = Vec::new();
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                assert_eq!(judge(sector, 1, 2, index), Verdict::Good, "{length} {index}");
                let begin = read.len();
                read.extend_from_slice(parts.part(sector, index).unwrap());
                for within in begin..read.len().min(length) {
                    assert_eq!(Shape::SEALED.locate(within), (index, within - begin));
                }
            }
            assert_eq!(read[..length], payload);
        }
    }

    #[test]
    fn what_somebody_changed_who_does_not_know_the_key_is_not_opened() {
        let buffer = sealed(&[7; 600]);
        assert!(!buffer.bytes().windows(8).any(|part| part == [7; 8]));
        let open = |bytes: &[u8], segment, index| {
            let mut parts = Payload::of(bytes, segment, Some(&mut Opener::new(key())));
            parts.part(&bytes[index * SECTOR..][..SECTOR], index).is_some()
        };
        assert!(open(buffer.bytes(), 9, 0) && open(buffer.bytes(), 9, 1));
        assert!(!open(buffer.bytes(), 8, 0), "of another segment");
        for at in BODY..BODY_END {
            let mut changed = buffer.bytes().to_vec();
            changed[at] ^= 1;
            // Whoever changes it can make the checksum fit.
            assert!(!open(&changed, 9, 0), "byte {at}");
            let mut changed = buffer.bytes().to_vec();
            changed[SECTOR + at] ^= 1;
            assert!(!open(&changed, 9, 1), "byte {at} of the second sector");
        }
    }

    #[test]
    fn a_frame_of_any_length_fills_whole_good_sectors() {
        for length in [0, 1, 481, 482, 483, 987, 988, 989, 5000] {
            let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let buffer = frame(&payload);
            let bytes = buffer.bytes();
            assert_eq!(u64::try_from(bytes.len()).unwrap(), buffer.written_bytes(), "{length}");
            let mut read = Vec::new();
            let mut parts = Payload::of(bytes, 9, None);
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                assert_eq!(judge(sector, 1, 2, index), Verdict::Good, "{length} {index}");
                read.extend_from_slice(parts.part(sector, index).unwrap());
            }
            assert_eq!(read[..length], payload);
            let header = header(bytes);
            assert!(header.magic_fits);
            assert_eq!((header.number, header.former), (2, 3));
            assert_eq!(usize::try_from(header.length).unwrap(), length);
        }
    }

    #[test]
    fn a_sector_in_another_place_is_damaged() {
        let buffer = frame(&[7; 600]);
        let second = &buffer.bytes()[SECTOR..];
        assert_eq!(judge(second, 1, 2, 1), Verdict::Good);
        assert_eq!(judge(second, 1, 2, 0), Verdict::Damaged);
        assert_eq!(judge(second, 1, 3, 1), Verdict::Damaged);
        assert_eq!(judge(second, 2, 2, 1), Verdict::Damaged);
    }

    #[test]
    fn a_flipped_bit_is_damage_and_a_torn_sector_is_missing() {
        let buffer = frame(&[7; 100]);
        let sector = buffer.bytes().to_vec();
        for bit in 0..SECTOR * 8 {
            let mut flipped = sector.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(judge(&flipped, 1, 2, 0), Verdict::Damaged, "bit {bit}");
        }
        for cut in 1..SECTOR {
            let mut front = sector.clone();
            front[cut..].fill(0);
            assert_eq!(judge(&front, 1, 2, 0), Verdict::Missing, "front {cut}");
            let mut back = sector.clone();
            back[..cut].fill(0);
            assert_eq!(judge(&back, 1, 2, 0), Verdict::Missing, "back {cut}");
        }
        assert_eq!(judge(&[0; SECTOR], 1, 2, 0), Verdict::Missing);
    }
}
