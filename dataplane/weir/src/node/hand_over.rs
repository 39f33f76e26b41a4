//! The old process's part when another takes over: lends what only one can have, and takes it back if the other fails.

use std::os::fd::AsFd as _;

use super::{Node, load_kernel, open_slots};
use crate::take_over::Asked;

impl Node {
    /// Hands over to the process that asked. Returns whether it did take over; if not, this one is the node again.
    ///
    /// Requests are served throughout. What is in force cannot change meanwhile: nothing is followed, and the API
    /// refuses rollbacks because the version log is away.
    ///
    /// # Errors
    /// When what was lent cannot be taken back.
    pub(super) async fn hand_over(&mut self, mut asked: Asked) -> anyhow::Result<bool> {
        tracing::info!("another process takes over");
        let lent = self.publisher().lend();
        if let Err(error) = lent {
            tracing::error!(%error, "what is in force cannot be recorded, so nobody can take over");
            asked.refuse(&format!("what is in force is not recorded: {error}")).await;
            return Ok(false);
        }
        if let Err(error) = self.converse(&mut asked).await {
            tracing::error!(%error, "the other process did not take over; its own log says why");
            // From here on the other cannot become the node any more: it sees the end of the connection.
            drop(asked);
            self.take_back()?;
            return Ok(false);
        }
        if let Some(wiring) = &self.wiring {
            wiring.let_go();
        }
        // The other waits for this; if it is gone, its supervisor starts the next, which finds everything as after a
        // crash. Taking back now could make two nodes.
        if let Err(error) = asked.farewell().await {
            tracing::error!(%error, "the other process has gone after it took over: start a node");
        }
        tracing::info!("the other process is the node now");
        Ok(true)
    }

    async fn converse(&self, asked: &mut Asked) -> std::io::Result<()> {
        asked.lend(&self.settings.admin.address, self.api_socket.as_fd()).await?;
        asked.ready().await
    }

    /// Everything that the other process may have changed is made again.
    fn take_back(&mut self) -> anyhow::Result<()> {
        if let Some(wiring) = &self.wiring {
            wiring.let_go();
            if let Some((kernel, links)) = load_kernel(&self.settings)? {
                wiring.take(kernel, links)?;
                open_slots(wiring, &self.slots)?;
            }
        }
        let mut publisher = self.publisher();
        if let Err(error) = publisher.take_back() {
            tracing::error!(%error, "the version log cannot be read; trying again");
        }
        if publisher.has_unfinished() {
            publisher.retry();
        }
        tracing::info!("this process is the node again");
        Ok(())
    }
}
