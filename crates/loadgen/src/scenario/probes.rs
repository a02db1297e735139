//! Receipts of the probes sent before the load.

/// Clients that have received their probe.
#[derive(Default)]
pub(super) struct Probes {
    /// Number of the probe that all clients wait for; if `None`, each waits for the number of its group.
    wanted: Option<u32>,
    groups: usize,
    pub(super) seen: Vec<bool>,
    pub(super) unseen: usize,
    #[cfg(test)]
    pub(super) heard: usize,
}

impl Probes {
    pub(super) fn new(wanted: Option<u32>, groups: usize, clients: usize) -> Self {
        Self {
            wanted,
            groups,
            seen: vec![false; clients],
            unseen: clients,
            #[cfg(test)]
            heard: 0,
        }
    }

    pub(super) fn receive(&mut self, client: usize, number: u32) {
        #[cfg(test)]
        {
            self.heard += 1;
        }
        let wanted = self.wanted.unwrap_or((client % self.groups) as u32);
        if number == wanted && !std::mem::replace(&mut self.seen[client], true) {
            self.unseen -= 1;
        }
    }
}
