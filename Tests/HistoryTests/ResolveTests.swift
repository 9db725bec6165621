// From targets to points, and the refusals, as a table over one history with a gap:
//
//   lsn    0     1  2  3  4  5  6 │ 7  8  9 │ 10      11 12  (13 14 in the tail)
//   wall   +0   10 20 30 30 40 50 │ 60 70 80│ 90     100 110  120 130
//          base  w  f  m  w  f  w │ missing │ snapshot w  f    m   w

import BlockModel
import History
import HistoryModel
import LogFormat
import Testing

@Suite struct ResolveTests {
    private struct World {
        var history: HistoryCatalogue
        var volume: ModelVolume
        var start: Int64 { volume.baseStamp.wallNanoseconds }
        var now: Int64 { start + 1000 }
        func stamp(_ lsn: UInt64) -> Stamp { volume.stamp(LSN(lsn)) }
    }

    private static func world() throws -> World {
        var volume = ModelVolume(sectors: 8)
        volume.write(0, 1, fill: 1)
        // `append` after the default pause, so set all pauses by hand.
        volume = ModelVolume(sectors: 8)
        let sector = Extent(start: 0, count: 1)
        let bytes = [UInt8](repeating: 1, count: 512)
        volume.append(.write, sector, payload: bytes, after: 10)
        volume.append(.flush, after: 10)
        volume.append(.mark, payload: Array("upgrade".utf8), after: 10)
        volume.append(.write, sector, payload: bytes, after: 0)
        volume.append(.flush, after: 10)
        volume.append(.write, sector, payload: bytes, after: 10)
        volume.append(.write, sector, payload: bytes, after: 10)
        volume.append(.mark, payload: Array("lost".utf8), after: 10)
        volume.append(.flush, after: 10)
        volume.append(.write, sector, payload: bytes, after: 10)
        volume.append(.write, sector, payload: bytes, after: 10)
        volume.append(.flush, after: 10)
        volume.append(.mark, payload: Array("upgrade".utf8), after: 10)
        volume.append(.write, sector, payload: bytes, after: 10)
        let store = MemoryStore()
        let writer = SnapshotWriter(store: store, identity: volume.identity)
        _ = try writer.write(ImageSource(volume.base), at: volume.baseStamp)
        _ = try writer.write(ImageSource(volume.image(at: LSN(10))), at: volume.stamp(LSN(10)))
        let archiver = try Archiver(store: store, identity: volume.identity)
        for last in [6, 9, 10, 12] as [UInt64] {
            try archiver.archive(from: volume.source(), through: LSN(last))
        }
        try store.delete(SegmentName(first: LSN(7), last: LSN(9), kind: .log))
        let source = volume
        let history = try HistoryCatalogue(
            store: store, tail: SequentialTail { source.source(from: $0) })
        return World(history: history, volume: volume)
    }

    @Test func theWorldIsAsDrawn() throws {
        let world = try Self.world()
        #expect(
            world.history.ranges == [
                RestorableRange(first: world.stamp(0), last: world.stamp(6)),
                RestorableRange(first: world.stamp(10), last: world.stamp(14)),
            ])
        let gap = HistoryGap(first: LSN(7), last: LSN(9), reason: .missing)
        #expect(world.history.gaps == [gap])
        let points = try world.history.points()
        #expect(points.marks.map(\.name) == ["upgrade", "upgrade"])
        #expect(points.snapshots.map(\.stamp.lsn) == [.zero, LSN(10)])
        #expect(points.gaps == [gap])
        let middle = try world.history.points(from: world.start + 31, to: world.start + 49)
        #expect(middle.marks == [] && middle.ranges.count == 1 && middle.gaps == [])
    }

    /// Times after the start that resolve, and to which LSN; with `--barrier`, to which.
    @Test(
        arguments: [
            (0, 0, 0), (9, 0, 0), (10, 1, 0), (11, 1, 0), (20, 2, 2), (29, 2, 2), (30, 4, 2),
            (39, 4, 2), (40, 5, 5), (50, 6, 5), (100, 11, nil), (110, 12, 12), (129, 13, 12),
            (130, 14, 12), (131, 14, 12), (1000, 14, 12),
        ] as [(Int64, UInt64, UInt64?)]) func times(
            _ time: Int64, _ lsn: UInt64, _ barrier: UInt64?
        ) throws
    {
        let world = try Self.world()
        let target = Target.time(world.start + time)
        #expect(
            try world.history.resolve(target, now: world.now).stamp == world.stamp(lsn))
        if let barrier {
            #expect(
                try world.history.resolve(target, now: world.now, barrier: true).stamp
                    == world.stamp(barrier))
        } else {
            let refused = refusal {
                _ = try world.history.resolve(target, now: world.now, barrier: true)
            }
            #expect(refused?.reason == .noFlush)
            #expect(refused?.after == nil || refused?.after == world.stamp(10))
        }
    }

    @Test func otherTargets() throws {
        let world = try Self.world()
        func lsn(_ target: Target) throws -> UInt64 {
            try world.history.resolve(target, now: world.now).stamp.lsn.rawValue
        }
        #expect(try lsn(.now) == 14)
        #expect(try lsn(.ago(0)) == 14)
        #expect(try lsn(.ago(1000 - 20)) == 2)
        #expect(try lsn(.lsn(LSN(4))) == 4)
        #expect(try lsn(.mark("upgrade")) == 13, "the newest of a name wins")
        let point = try world.history.resolve(.lsn(LSN(4)), now: world.now)
        #expect(point.flushBefore == world.stamp(2))
        #expect(point.flushAfter == world.stamp(5))
        #expect(point.markBefore == MarkPoint(name: "upgrade", stamp: world.stamp(3)))
        #expect(point.markAfter == MarkPoint(name: "upgrade", stamp: world.stamp(13)))
    }

    @Test func refusals() throws {
        let world = try Self.world()
        let gap = HistoryGap(first: LSN(7), last: LSN(9), reason: .missing)
        let (six, ten, fourteen) = (world.stamp(6), world.stamp(10), world.stamp(14))
        func check(
            _ target: Target, _ reason: NotRestorable.Reason, _ before: Stamp?, _ after: Stamp?
        ) {
            let refused = refusal { _ = try world.history.resolve(target, now: world.now) }
            #expect(
                refused
                    == NotRestorable(
                        target: target, reason: reason, before: before, after: after))
        }
        check(.time(world.start - 1), .beforeBase, nil, world.stamp(0))
        check(.time(0), .beforeBase, nil, world.stamp(0))
        check(.time(world.now + 1), .inFuture, fourteen, nil)
        check(.time(world.start + 51), .gap(gap), six, ten)
        check(.time(world.start + 89), .gap(gap), six, ten)
        check(.lsn(LSN(8)), .gap(gap), six, ten)
        check(.lsn(LSN(15)), .beyondLast(LSN(14)), fourteen, nil)
        check(.lsn(.max), .beyondLast(LSN(14)), fourteen, nil)
        check(.mark("upgrad"), .unknownMark(similar: ["upgrade"]), nil, world.stamp(0))
    }

    @Test func aClockThatWentBackLeavesTheLastRecordReachable() throws {
        let world = try Self.world()
        // "now" is before the last stamps: wall times are clamped, never in the future of history.
        let now = world.start + 5
        let point = try world.history.resolve(.time(world.start + 130), now: now)
        #expect(point.stamp == world.stamp(14))
    }

    @Test func emptyHistory() throws {
        let history = try HistoryCatalogue(store: MemoryStore())
        #expect(refusal { _ = try history.resolve(.now, now: 5) }?.reason == .nothing)
        #expect(try history.points().ranges == [])
        #expect(history.last == nil)
    }

    @Test func pins() throws {
        let world = try Self.world()
        #expect(
            try PointInTimeView(world.history, at: LSN(12), snapshot: LSN(10)).snapshot
                == .snapshot(LSN(10)))
        for (lsn, pin) in [(12, 0), (5, 10), (12, 3)] as [(UInt64, UInt64)] {
            let refused = refusal {
                _ = try PointInTimeView(world.history, at: LSN(lsn), snapshot: LSN(pin))
            }
            #expect(refused?.reason == .noSuchSnapshot(LSN(pin)))
        }
    }

    /// Records 1 and 2 of the tail can be read, then it fails: "now" and later times are refused.
    @Test func aTailThatCannotBeReadToItsEndIsAGap() throws {
        struct Lost: Error, CustomStringConvertible { var description: String { "lost" } }
        final class Failing: RecordSource {
            private let source: ArraySource
            init(_ source: ArraySource) { self.source = source }
            func next() throws -> LogRecord? {
                guard let record = source.next() else { throw Lost() }
                return record
            }
        }
        var volume = ModelVolume(sectors: 8)
        volume.write(0, 1, fill: 1)
        volume.write(1, 1, fill: 2)
        let store = MemoryStore()
        _ = try SnapshotWriter(store: store, identity: volume.identity)
            .write(ImageSource(volume.base), at: volume.baseStamp)
        let source = volume
        let history = try HistoryCatalogue(
            store: store, tail: SequentialTail { Failing(source.source(from: $0)) })
        let gap = HistoryGap(first: LSN(3), last: LSN(3), reason: .tail("lost"))
        #expect(history.gaps == [gap])
        #expect(history.ranges.map(\.last.lsn) == [LSN(2)])
        let now = volume.wall + 100
        for target in [Target.now, .time(volume.wall + 1), .lsn(LSN(3))] {
            let refused = refusal { _ = try history.resolve(target, now: now) }
            #expect(refused?.reason == .gap(gap) && refused?.before == volume.stamp(LSN(2)))
        }
        #expect(try history.resolve(.time(volume.wall), now: now).stamp.lsn == LSN(2))
        #expect(
            try PointInTimeView(history, at: LSN(2)).contents() == volume.image(at: LSN(2)))
    }
}
