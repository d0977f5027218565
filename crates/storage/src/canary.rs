//! Faults built in on purpose, to prove that the simulation, or a model, finds them: one for each promise.
//!
//! Without the feature `sim` none can be chosen, and the compiler takes them out.

/// A fault built in on purpose; the promise it breaks is in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "sim"), allow(unreachable_pub))]
pub enum Canary {
    /// Tickets become durable before the sync. *A durable ticket is not undone by a crash.*
    ConfirmBeforeSync,
    /// A sync that failed is tried again as if nothing had happened. *A failed sync is final.*
    RetryFailedSync,
    /// New names are not made durable. *A file's name is durable before a record is written to it.*
    DropDirSync,
    /// What could not be written because the disk was full is dropped. *A full disk is waited out.*
    DropWhenFull,
    /// Publishers are never told that the disk has space again. *Pressure that ends is told.*
    ForgetRelief,
    /// Durable tickets go back. *Tickets are monotone.*
    TicketGoesBack,
    /// Entries are handed out before they are durable. *Nothing a consumer saw can be un-written.*
    DispatchBeforeDurable,
    /// Who waits for an entry to become durable is not told. *What was pending is said to be readable.*
    ForgetReadable,
    /// One entry more than the credit is handed out. *At most the credit.*
    IgnoreCredit,
    /// Entries are handed out after their time to live. *Expired entries are never handed out.*
    IgnoreExpiry,
    /// A requeued entry goes behind the others. *It returns to its place.*
    RequeueToBack,
    /// Released entries stay with their holder too. *An entry is with one holder.*
    ReleaseAndKeep,
    /// What is handed out is still counted as ready. *Counts are exact.*
    StaleCounts,
    /// Settles are not logged. *What was settled durably does not come back.*
    LoseSettle,
    /// A settle names the seq behind the right one. *A settle is of the entry it was given for.*
    SettleWrongSeq,
    /// The settles of a batch are a record of their own, in front of it. *A batch is there wholly or not at all.*
    AcksBeforeBatch,
    /// A new value of a key that has one is not logged. *The last durable value counts.*
    LoseValue,
    /// Seqs begin again where the recovered ones end. *A seq is never used twice.*
    ReuseSeq,
    /// Queue ids begin again where the recovered ones end. *A queue id is never used twice.*
    ReuseQueueId,
    /// Recovery believes every record whose header is right. *What comes back is what was written.*
    IgnoreChecksum,
    /// Messages read back from the disk are not checked. *What is handed out is what was published.*
    TrustReads,
    /// A bad record before the tail ends the log. *Damage is refused, not skipped.*
    SkipDamage,
    /// Recovery takes what it reads for what is on the disk. *What comes wrong once is read again.*
    ReadOnce,
    /// A torn tail is left as it is. *It is cut, and never comes back.*
    KeepTornTail,
    /// A file goes before the settles that emptied it are durable. *A file is given up when nothing lives in it.*
    GiveUpEarly,
    /// The settles of a file that goes are not said again. *They matter while an older file exists.*
    ForgetSettles,
    /// The deletions of a file that goes are not said again. *They matter while an older file exists.*
    ForgetDeletions,
    /// A file goes without a word although it ended something that an older file holds. *What settles matters while an older
    /// file needs it.*
    BareTooSoon,
    /// The newest entry of a queue that is too long dies. *The head dies.*
    DropTail,
    /// A queue that refuses takes one message too many. *No longer than it may be.*
    TakeOneMore,
    /// A queue that refuses does not count the bytes of what comes. *No larger than it may be.*
    IgnoreBytes,
    /// What is too large pushes one entry out, however small. *No larger than it may be.*
    PushOneOut,
    /// An entry is given back once more than it may be. *It dies when it was handed out too often.*
    GiveBackOnceMore,
    /// The log is not told what was handed out for the first time. *What was in flight at a crash counts.*
    ForgetHandedOut,
    /// The log is not told what was handed out again. *Counts of attempts outlive the process.*
    ForgetAttempts,
    /// Counts are not said again of entries that are moved. *Counts of attempts outlive the file they lie in.*
    MoveUncounted,
    /// The first group that has something has every turn. *Groups take turns.*
    SkipTurns,
    /// Entries of a group lie in two. *A group keeps its order.*
    SplitGroups,
    /// What came before the queue was fair is in a group once it came back. *It comes before whatever came after it.*
    GroupBacklog,
    /// A dead entry that was taken is there again to be taken. *It is taken once until it is settled.*
    TakeTwice,
    /// What is dead is settled when it dies. *It is there until it is dead-lettered.*
    SettleDead,
    /// Files are given up without a word. *A file that is not there was given up or is missed.*
    GiveUpUntold,
    /// Entries are moved without looking whether they still live. *A copy is made before its settle.*
    MoveSettled,
    /// A large body is not synced before its message is appended. *What is durable of a message is durable of its body.*
    BodyAfterLog,
    /// The file of a large body goes before the settles that ended it are durable. *A body is there while its message is.*
    DropBodyEarly,
    /// A file goes without a word although what it counted lives in an older file. *Counts of attempts outlive the file they
    /// lie in.*
    BareUncounted,
    /// A file goes without a word although it ended what lies in an older file and again in a newer one. *What ended does
    /// not come back.*
    BareBehindCopies,
    /// A thread looks whether there is work, and goes to sleep as a second step. *A signal is not lost.*
    SleepLater,
    /// A sync counts for what was written when it ended. *It covers what was written before it began.*
    CoverTooMuch,
    /// A sync does not wait until the fate of the one before is known. *A failed sync is final, for all.*
    SyncOutOfTurn,
    /// Whether an entry is durable is asked before its queue is put down to be told. *What was pending is said to be
    /// readable.*
    AskTooEarly,
}

#[cfg(feature = "sim")]
impl Canary {
    /// All that the simulation must find. The others are races, which the models of `handover` must find, or so rare that a
    /// test of their own must.
    pub const ALL: [Self; 45] = [
        Self::ConfirmBeforeSync,
        Self::RetryFailedSync,
        Self::DropDirSync,
        Self::DropWhenFull,
        Self::ForgetRelief,
        Self::TicketGoesBack,
        Self::DispatchBeforeDurable,
        Self::ForgetReadable,
        Self::IgnoreCredit,
        Self::IgnoreExpiry,
        Self::RequeueToBack,
        Self::ReleaseAndKeep,
        Self::StaleCounts,
        Self::LoseSettle,
        Self::SettleWrongSeq,
        Self::AcksBeforeBatch,
        Self::LoseValue,
        Self::ReuseSeq,
        Self::ReuseQueueId,
        Self::IgnoreChecksum,
        Self::TrustReads,
        Self::SkipDamage,
        Self::ReadOnce,
        Self::KeepTornTail,
        Self::GiveUpEarly,
        Self::ForgetSettles,
        Self::ForgetDeletions,
        Self::BareTooSoon,
        Self::DropTail,
        Self::TakeOneMore,
        Self::IgnoreBytes,
        Self::PushOneOut,
        Self::GiveBackOnceMore,
        Self::ForgetHandedOut,
        Self::ForgetAttempts,
        Self::MoveUncounted,
        Self::SkipTurns,
        Self::SplitGroups,
        Self::GroupBacklog,
        Self::TakeTwice,
        Self::SettleDead,
        Self::GiveUpUntold,
        Self::MoveSettled,
        Self::BodyAfterLog,
        Self::DropBodyEarly,
    ];

    /// Its name in lower case with dashes, as on a command line.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

impl crate::Options {
    /// Whether this fault is built in.
    #[cfg(feature = "sim")]
    pub(crate) fn plants(&self, canary: Canary) -> bool {
        self.canary == Some(canary)
    }

    /// Whether this fault is built in: never.
    #[cfg(not(feature = "sim"))]
    #[allow(clippy::unused_self)]
    pub(crate) fn plants(&self, _: Canary) -> bool {
        false
    }
}
