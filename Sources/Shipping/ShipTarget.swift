// Where segments are shipped to, as the shipper sees it: a log server today, object storage later.
// The shipper decides what goes and when; a target only carries it there, in whole and once.

import History
import LogFormat
import ServerAPI

/// A remote that takes segments. Any thread may call; calls block.
public protocol ShipTarget: AnyObject, Sendable {
    /// What is in messages: the URL.
    var label: String { get }

    /// Where the volume stands there; nil: the remote does not know it yet.
    func state() throws(ShipError) -> VolumeReply?

    /// Makes the volume there, or confirms that it is the one that is there.
    func attach(_ request: VolumeRequest) throws(ShipError) -> VolumeReply

    /// Sends a segment: durable and visible there when this returns. What was sent of it before
    /// is not sent again. `pace` hears of each piece before it goes, may wait, and ends the work by
    /// throwing; what is there by then stays for the next time.
    func put(
        _ shipment: Shipment, pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply

    /// The same, and told of what will most likely follow: the remote may send of it already what
    /// does no harm if it does not. That is paced as well.
    func put(
        _ shipment: Shipment, next: [Shipment], pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply

    /// So many shipments are of use as `next`.
    var nextMax: Int { get }

    /// How busy the remote said it was in its last answer, 0 to 1; nil: it never said.
    var load: Double? { get }
}

extension ShipTarget {
    /// One after the other.
    public func put(
        _ shipment: Shipment, next: [Shipment], pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply { try put(shipment, pace: pace) }

    public var nextMax: Int { 0 }
}

/// One segment on its way.
public struct Shipment: Sendable {
    public var name: SegmentName
    public var byteCount: UInt64
    /// Where its bytes are read.
    public var source: any SegmentStore
    /// The same for the same bytes, so that an upload that was cut goes on.
    public var uploadID: String
    /// The digest in its footer, over every byte before it. Asked for when all is sent.
    public var digest: @Sendable () throws(StoreError) -> SegmentDigest
    /// As in CommitRequest.
    public var after: SegmentDigest?
    public var isGap: Bool

    public init(
        name: SegmentName, byteCount: UInt64, source: any SegmentStore, uploadID: String,
        digest: @escaping @Sendable () throws(StoreError) -> SegmentDigest,
        after: SegmentDigest?, isGap: Bool
    ) {
        self.name = name
        self.byteCount = byteCount
        self.source = source
        self.uploadID = uploadID
        self.digest = digest
        self.after = after
        self.isGap = isGap
    }
}

/// Why something did not reach a remote.
public enum ShipError: Error, Sendable {
    /// No answer, or a broken one: try again later.
    case unreachable(String)
    /// The remote asks to wait so many seconds.
    case busy(seconds: Int64, String)
    /// The remote has no room; it says when to ask again.
    case full(seconds: Int64, String)
    /// The certificate, the token or the rights are not good: nothing helps but the user.
    case refused(String)
    /// Somebody else writes this volume now.
    case fenced(String)
    /// The remote answers, and says no for another reason.
    case rejected(ErrorReply)
    /// Our own segment cannot be read.
    case source(StoreError)
    /// `pace` ended it: it should stop, or wait.
    case stopped
}
