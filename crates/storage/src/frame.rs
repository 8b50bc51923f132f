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

use crc32fast::Hasher;
use protocol::hash::scatter;

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
const BODY_BYTES: usize = BODY_END - BODY;
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

/// The body of a sector.
pub(crate) fn body(sector: &[u8]) -> &[u8] {
    &sector[BODY..BODY_END]
}

/// The header in a first sector; means something only when the sector is good.
pub(crate) fn header(first: &[u8]) -> Header {
    let body = body(first);
    Header {
        magic_fits: u32_at(body, 0) == MAGIC,
        length: u32_at(body, 4),
        number: u64_at(body, 8),
        former: u32_at(body, 16),
        others: u32_at(body, 20),
    }
}

/// In which sector of its frame a byte of the payload lies, and where in that sector's body.
pub(crate) fn locate(within: usize) -> (usize, usize) {
    ((HEADER_BYTES + within) / BODY_BYTES, (HEADER_BYTES + within) % BODY_BYTES)
}

/// What of the payload is in the first sector.
pub(crate) fn first_payload(first: &[u8]) -> &[u8] {
    &body(first)[HEADER_BYTES..]
}

/// How many sectors a frame with that many bytes of payload has.
pub(crate) fn sectors(payload: usize) -> usize {
    (HEADER_BYTES + payload).div_ceil(BODY_BYTES)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were cut out"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut out"))
}

/// Builds a frame in the form in which it is written. Used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    /// Whole sectors, but for the last while the frame is being built.
    bytes: Vec<u8>,
    payload: usize,
}

impl FrameBuffer {
    pub(crate) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.bytes.extend_from_slice(&[MARK, 0, 0, 0, 0]);
        self.put(&[0; HEADER_BYTES]);
        self.payload = 0;
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        self.payload += bytes.len();
        while !bytes.is_empty() {
            let at = self.bytes.len() % SECTOR;
            if at == BODY_END {
                self.bytes.extend_from_slice(&[MARK, MARK, 0, 0, 0, 0]);
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(BODY_END - at));
            self.bytes.extend_from_slice(now);
            bytes = later;
        }
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
        u64::try_from(sectors(self.payload) * SECTOR).expect("the length of a buffer fits")
    }

    /// Fills the last sector up and sets header and checksums. Gives the checksum of the first
    /// sector, by which the next frame names this one.
    pub(crate) fn finish(&mut self, salt: u64, number: Number, former: u32) -> u32 {
        assert!(self.payload <= FRAME_BYTES_MAX, "one append is longer than a frame may be");
        let body_end = self.bytes.len().next_multiple_of(SECTOR) - 1;
        self.bytes.resize(body_end, 0);
        self.bytes.push(MARK);
        let (first, others) = self.bytes.split_at_mut(SECTOR);
        let mut of_others = Hasher::new();
        for (index, sector) in others.chunks_exact_mut(SECTOR).enumerate() {
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

    fn frame(payload: &[u8]) -> FrameBuffer {
        let mut buffer = FrameBuffer::default();
        buffer.begin();
        buffer.put(payload);
        buffer.finish(1, 2, 3);
        buffer
    }

    #[test]
    fn a_frame_of_any_length_fills_whole_good_sectors() {
        for length in [0, 1, 481, 482, 483, 987, 988, 989, 5000] {
            let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let buffer = frame(&payload);
            let bytes = buffer.bytes();
            assert_eq!(u64::try_from(bytes.len()).unwrap(), buffer.written_bytes(), "{length}");
            let mut read = Vec::new();
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                assert_eq!(judge(sector, 1, 2, index), Verdict::Good, "{length} {index}");
                read.extend_from_slice(body(sector));
            }
            assert_eq!(read[HEADER_BYTES..][..length], payload);
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
