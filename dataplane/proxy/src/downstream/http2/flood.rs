//! What a client of HTTP/2 sends that costs work and asks for nothing: counted, and bounded.
//!
//! h2 has bounds of its own for what would take memory (`CONTINUATION`, header lists, streams that are reset before
//! anyone looks at them, empty `DATA`). What is left is work: frames that are answered or looked up and move nothing
//! forward, and requests that are taken back as soon as they are made (CVE-2023-44487).

/// Bytes before a frame's content (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;

/// Idle frames that a connection may send in a second, whatever else it does: many times what keep-alives, changed
/// settings and priorities come to.
const FREE: u32 = 1_000;
/// Further ones for each frame that moves something forward.
const PER_FRAME: u32 = 4;
/// Bytes sent to the client for which it may send one more: some open the window again for each piece that they get.
const BYTES_PER_FRAME: u32 = 1_024;

/// The frames of a connection, counted as they are read, before anyone understands them.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the current frame's content, or of the preface, that are still to come.
    left: usize,
    head: [u8; FRAME_HEAD],
    /// How many bytes of the next frame's head are there.
    have: usize,
    second: u64,
    idle: u32,
    allowed: u32,
}

impl Frames {
    /// Counts the frames that follow so many bytes of something else.
    pub(super) fn after(preface: usize) -> Self {
        Self { left: preface, head: [0; FRAME_HEAD], have: 0, second: 0, idle: 0, allowed: FREE }
    }

    /// These bytes were read in this second of any clock. Whether there was too much among them.
    pub(super) fn on_read(&mut self, mut bytes: &[u8], second: u64) -> bool {
        if second != self.second {
            (self.second, self.idle, self.allowed) = (second, 0, FREE);
        }
        while !bytes.is_empty() {
            let content = self.left.min(bytes.len());
            self.left -= content;
            bytes = &bytes[content..];
            let head = (FRAME_HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + head].copy_from_slice(&bytes[..head]);
            self.have += head;
            bytes = &bytes[head..];
            if self.have == FRAME_HEAD {
                self.have = 0;
                self.on_frame();
            }
        }
        self.idle > self.allowed
    }

    /// So many bytes were sent to the client.
    pub(super) fn on_write(&mut self, bytes: usize) {
        let more = u32::try_from(bytes).unwrap_or(u32::MAX) / BYTES_PER_FRAME;
        self.allowed = self.allowed.saturating_add(more);
    }

    fn on_frame(&mut self) {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        let [high, middle, low, kind, ..] = self.head;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            HEADERS => self.allowed = self.allowed.saturating_add(PER_FRAME),
            DATA if self.left > 0 => self.allowed = self.allowed.saturating_add(PER_FRAME),
            _ => self.idle = self.idle.saturating_add(1),
        }
    }
}

/// Requests of a connection after which it is looked at how many were taken back.
const LOOKED_AT: u32 = 500;

/// The requests of a connection, and how many of them were taken back at once.
#[derive(Debug, Default)]
pub(super) struct Resets {
    begun: u32,
    early: u32,
}

impl Resets {
    /// A request begins. Whether it is one too many: most of the last ones were taken back in the second that they
    /// came in.
    pub(super) fn on_begin(&mut self) -> bool {
        self.begun += 1;
        if self.begun < LOOKED_AT {
            return false;
        }
        let is_flood = self.early > self.begun / 2;
        *self = Self::default();
        is_flood
    }

    /// A request was taken back in the second that it came in.
    pub(super) fn on_early_reset(&mut self) {
        self.early += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const EMPTY_DATA: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, 1];
    const DATA: [u8; 11] = [0, 0, 2, 0, 0, 0, 0, 0, 1, 1, 2];
    const HEADERS: [u8; 10] = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82];

    /// How many of these in one second are still borne.
    fn borne(frame: &[u8], mut with: impl FnMut(&mut Frames)) -> Option<u32> {
        let mut frames = Frames::after(0);
        (0..100_000).find(|_| {
            with(&mut frames);
            frames.on_read(frame, 7)
        })
    }

    #[test]
    fn idle_frames_are_borne_up_to_a_bound_that_grows_with_what_is_done() {
        assert_eq!(borne(&PING, |_| {}), Some(FREE));
        assert_eq!(borne(&EMPTY_DATA, |_| {}), Some(FREE));
        assert_eq!(borne(&DATA, |_| {}), None);
        assert_eq!(borne(&HEADERS, |_| {}), None);
        assert_eq!(borne(&PING, |frames| frames.on_write(1_024)), None);
        assert_eq!(borne(&PING, |frames| assert!(!frames.on_read(&HEADERS, 7))), None);
    }

    #[test]
    fn another_second_is_another_account() {
        let mut frames = Frames::after(0);
        let pings = PING.repeat(FREE as usize);
        assert!((1..10).all(|second| !frames.on_read(&pings, second)));
        assert!(frames.on_read(&PING, 9));
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let all = [&b"preface"[..], &DATA, &PING, &HEADERS, &PING].concat();
        for cut in 0..all.len() {
            let mut frames = Frames::after(7);
            frames.on_read(&all[..cut], 0);
            frames.on_read(&all[cut..], 0);
            assert_eq!((frames.idle, frames.left, frames.have), (2, 0, 0), "cut at {cut}");
        }
        let mut frames = Frames::after(7);
        all.iter().for_each(|byte| assert!(!frames.on_read(&[*byte], 0)));
        assert_eq!((frames.idle, frames.allowed), (2, FREE + 2 * PER_FRAME));
    }

    #[test]
    fn requests_are_taken_back_too_often_when_most_are() {
        for (early_of_ten, expected) in [(0, false), (4, false), (5, false), (6, true), (10, true)] {
            let mut resets = Resets::default();
            let is_flood = (0..LOOKED_AT * 2).any(|number| {
                let is_flood = resets.on_begin();
                if number % 10 < early_of_ten {
                    resets.on_early_reset();
                }
                is_flood
            });
            assert_eq!(is_flood, expected, "{early_of_ten} of ten");
        }
    }
}
