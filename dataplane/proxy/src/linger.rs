//! Closing a connection on which the client may still be sending: at once, what it has not sent yet would meet a
//! closed socket, whose reset can destroy the answer before the client has read it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::stream::Stream;

/// How long and how much is read and thrown away. Enough for an honest client that is in the middle of a large head.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// Says some last words and ends the proxy's side, then waits a moment for the client to end its own.
pub(crate) async fn close(mut stream: Stream, last_words: &[u8]) {
    let drain = async {
        stream.write_all(last_words).await?;
        stream.shutdown().await?;
        // In TLS too: what it would say is of no interest. In a tunnel nothing that comes destroys what has been sent.
        let Some(stream) = stream.tcp() else { return Ok(()) };
        let (mut left, mut buffer) = (LINGER_BYTES, vec![0; 4_096]);
        loop {
            stream.readable().await?;
            match stream.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) if count < left => left -= count,
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // Whatever comes of it, the connection is over.
    let _: Result<std::io::Result<()>, _> = tokio::time::timeout(LINGER, drain).await;
}
