//! Finds pods.
#![expect(unsafe_code, reason = "x")]
/// Cookie.
pub fn namespace_cookie() -> std::io::Result<u64> {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let mut cookie = 0u64;
    let mut length = 8u32;
    // SAFETY: x
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, 71, std::ptr::from_mut(&mut cookie).cast(), &mut length)
    };
    if result == 0 { Ok(cookie) } else { Err(std::io::Error::last_os_error()) }
}
