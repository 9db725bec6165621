// The volume's side of shipping, as the shipper sees it: where the records are and when there are
// new ones. The mount implements it over the open volume, tests over a model.

import BlockModel
import History
import LogFormat

/// One open volume. Any thread may call; calls may block, but never block a writer.
public protocol ShipJournal: AnyObject, Sendable {
    var identity: SegmentIdentity { get }
    /// The local segments.
    var store: any SegmentStore { get }
    /// All segments, also where older ones lie elsewhere; asked for seldom.
    var history: any SegmentStore { get }
    /// Whether the local segments are the history from its beginning on. Where they are not, the
    /// oldest local snapshot is one like the others.
    var holdsBeginning: Bool { get }
    /// What a branch stands on.
    var base: PointInTimeView? { get }
    /// The newest durable record, and the newest in a segment.
    var durable: Stamp { get }
    var archived: LSN { get }
    /// Bytes of log that no segment holds yet, about.
    var unarchivedBytes: UInt64 { get }
    /// Points that stay whatever their age.
    var pins: Set<LSN> { get }
    /// Whether the volume has much to do just now.
    var isBusy: Bool { get }

    /// Brings every record up to `last` into segments, as far as `mayGoOn` (asked after each)
    /// allows.
    func archive(through last: LSN, while mayGoOn: () -> Bool) throws(ShipError)

    /// Rests while the volume is written to; called between small pieces of work.
    func pace()

    /// Sleeps until a record after `lsn` is durable, or `isWoken` (asked after each wake-up).
    func waitForRecords(after lsn: LSN, or isWoken: () -> Bool)

    /// Lets who sleeps in `waitForRecords` look again.
    func wakeWaiters()

    /// A folder for what is made before it goes, empty; nil: there is none.
    func spool(_ remote: String) throws(StoreError) -> any SegmentStore

    /// Holds the volume's writers, or lets them go, for this remote.
    func holdWriters(_ isHeld: Bool, for remote: String)
}

extension ShipJournal {
    /// Nothing lies elsewhere.
    public var history: any SegmentStore { store }
    public var holdsBeginning: Bool { true }
}
