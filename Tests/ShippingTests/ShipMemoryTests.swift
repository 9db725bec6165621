// What a volume may remove once the remote where it keeps its history has it: a table of folders.

import BlockModel
import History
import LogFormat
import Testing

import Shipping

@Suite struct ShipMemoryTests {
    private static func log(_ first: UInt64, _ last: UInt64) -> SegmentName {
        SegmentName(first: LSN(first), last: LSN(last), kind: .log)
    }

    private static func snapshot(_ lsn: UInt64) -> SegmentName { .snapshot(LSN(lsn)) }

    private struct Row {
        var what: String
        var names: [SegmentName]
        var acked: UInt64?
        var sent: UInt64?
        var removed: [SegmentName]
    }

    private static let rows = [
        Row(
            what: "nothing is there", names: [snapshot(0), log(1, 5)], acked: nil, sent: nil,
            removed: []),
        Row(
            what: "the base alone tells where the archive ends", names: [snapshot(0)], acked: 0,
            sent: 0, removed: []),
        Row(
            what: "the newest records stay", names: [snapshot(0), log(1, 5)], acked: 5, sent: 0,
            removed: [snapshot(0)]),
        Row(
            what: "what is not acknowledged stays",
            names: [snapshot(0), log(1, 5), log(6, 9), log(10, 12)], acked: 9, sent: 0,
            removed: [log(1, 5), log(6, 9), snapshot(0)]),
        Row(
            what: "a part is not the whole", names: [log(1, 5), log(6, 9)], acked: 7, sent: 0,
            removed: [log(1, 5)]),
        Row(
            what: "a snapshot that waits, with what leads on from it",
            names: [log(1, 5), snapshot(5), log(6, 9), log(10, 12), log(13, 20)], acked: 12,
            sent: 0, removed: [log(1, 5)]),
        Row(
            what: "a snapshot that was sent",
            names: [log(1, 5), snapshot(5), log(6, 9), log(10, 12)], acked: 12, sent: 5,
            removed: [log(1, 5), log(6, 9), snapshot(5)]),
        Row(
            what: "a snapshot ahead of the records", names: [log(1, 5), log(6, 9), snapshot(9)],
            acked: 5, sent: 0, removed: [log(1, 5)]),
        Row(
            what: "it was sent, but its records are not acknowledged",
            names: [log(1, 5), snapshot(9), log(6, 9)], acked: 5, sent: 9, removed: [log(1, 5)]),
    ]

    @Test func superfluous() {
        for row in Self.rows {
            var memory = ShipMemory()
            (memory.ackedLSN, memory.snapshotLSN) = (row.acked, row.sent)
            let found = memory.superfluous(
                row.names.map { StoredSegment(name: $0, byteCount: 100) })
            #expect(Set(found) == Set(row.removed), "\(row.what)")
        }
    }
}
