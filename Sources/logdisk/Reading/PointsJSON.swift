// Points of history as JSON: the same shapes in points, replay and verify.

import BlockModel
import CommandText
import History

struct StampJSON: Encodable {
    var lsn: UInt64
    var time: String

    init(_ stamp: Stamp) {
        lsn = stamp.lsn.rawValue
        time = stamp.time
    }
}

struct RangeJSON: Encodable {
    var first: StampJSON
    var last: StampJSON

    init(_ range: RestorableRange) {
        first = StampJSON(range.first)
        last = StampJSON(range.last)
    }
}

struct GapJSON: Encodable {
    var firstLSN: UInt64
    var lastLSN: UInt64
    var reason: String
    /// For the text alone; programs see the reason.
    let isThinned: Bool

    init(_ gap: HistoryGap) {
        isThinned = gap.isThinned
        firstLSN = gap.first.rawValue
        lastLSN = gap.last.rawValue
        reason = "\(gap.reason)"
    }

    enum CodingKeys: String, CodingKey {
        case firstLSN = "first_lsn"
        case lastLSN = "last_lsn"
        case reason
    }
}

struct MarkJSON: Encodable {
    var name: String
    var lsn: UInt64
    var time: String

    init(_ mark: MarkPoint) {
        name = mark.name
        lsn = mark.stamp.lsn.rawValue
        time = mark.stamp.time
    }
}

struct SnapshotJSON: Encodable {
    var lsn: UInt64
    var time: String
    var segment: String
    var bytes: UInt64

    init(_ snapshot: SnapshotPoint) {
        lsn = snapshot.stamp.lsn.rawValue
        time = snapshot.stamp.time
        segment = "\(snapshot.segment)"
        bytes = snapshot.byteCount
    }
}
