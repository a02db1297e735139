/// Habit of the load generator that changes what a delivery costs the server; each value differs from the usual in one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Habit {
    /// As in every comparison: acknowledges at once, polls again at once, writes after each batch of events
    #[default]
    Usual,
    /// Leaves acknowledgements to the kernel, which delays those of sockets that have sent data
    DelayedAcks,
    /// Requests immediate acknowledgements again after each read, since the kernel forgets the request
    SteadyAcks,
    /// Sends polls again after all ready responses have been read
    BatchedPolls,
    /// Sends due messages after each event
    SpreadWrites,
    /// Sleeps until an event instead of busy-polling
    Blocking,
}

impl Habit {
    /// All habits, the usual first.
    pub const ALL: [Self; 6] = [
        Self::Usual,
        Self::DelayedAcks,
        Self::SteadyAcks,
        Self::BatchedPolls,
        Self::SpreadWrites,
        Self::Blocking,
    ];

    /// Returns the name on the command line.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
