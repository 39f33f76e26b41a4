//! HTTP/2 byte by byte, for what no client does that means well.

/// A frame (RFC 9113, section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// `GET / a` over `http` in indexed and literal fields that no table keeps (RFC 7541, section 6).
pub const GET: &[u8] = b"\x82\x86\x84\x01\x01a";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// `ENHANCE_YOUR_CALM`.
pub const CALM: u32 = 11;
pub const PROTOCOL_ERROR: u32 = 1;

pub fn request(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, GET)
}

/// What `GOAWAY` says among these frames.
pub fn farewell(mut bytes: &[u8]) -> Option<u32> {
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let content = rest.get(..length)?;
        if *kind == GOAWAY {
            return Some(u32::from_be_bytes(content[4..8].try_into().unwrap()));
        }
        bytes = &rest[length..];
    }
    None
}

/// What a client sends first.
pub fn start() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// Reads frames until there is one of this kind; its stream and its content.
pub fn await_frame(stream: &mut impl std::io::Read, wanted: u8) -> (u32, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut content = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut content).unwrap();
        if head[3] == wanted {
            return (u32::from_be_bytes(head[5..].try_into().unwrap()), content);
        }
    }
}
