// Reads all history and says what is damaged and which points that costs. It changes nothing.

import BlockModel
import LogFormat
import Synchronization

/// What a verification found.
public struct VerifyReport: Sendable {
    /// Every segment of the store, by name.
    public var segments: [SegmentVerdict]
    /// What can be restored, all damage that was found considered.
    public var ranges: [RestorableRange]
    /// What cannot, with the reason.
    public var gaps: [HistoryGap]
    /// Bytes that were read.
    public var readBytes: UInt64

    /// Whether nothing is wrong. History thinned on purpose is not wrong.
    public var isSound: Bool {
        segments.allSatisfy(\.isSound)
            && gaps.allSatisfy { if case .thinned = $0.reason { true } else { false } }
    }
}

/// Verifies a store. A value; `run` may be called on any thread.
public struct HistoryVerifier: Sendable {
    private let catalogue: HistoryCatalogue
    private let workers: Int

    public init(_ catalogue: HistoryCatalogue, workers: Int = 2) {
        self.catalogue = catalogue
        self.workers = max(1, workers)
    }

    /// Reads every segment. Throws when the store as a whole fails, or when cancelled.
    public func run(monitor: WorkMonitor = .none) throws(HistoryError) -> VerifyReport {
        let segments = catalogue.records + catalogue.snapshots
        let total = segments.reduce(0) { $0 + $1.footer.fileBytes }
        let state = Mutex(State())
        let advance: @Sendable (Int) throws(HistoryError) -> Void = {
            (count: Int) throws(HistoryError) in
            let done = state.withLock {
                $0.doneBytes += UInt64(count)
                return $0.doneBytes
            }
            monitor.report(WorkProgress(doneBytes: min(done, total), totalBytes: total))
            if monitor.isCancelled() { throw .cancelled }
        }
        let store = catalogue.store
        runInParallel(workers) { _ in
            while let segment = state.withLock({ $0.take(segments) }) {
                do throws(HistoryError) {
                    let verdict = try Self.verdict(on: segment, in: store, advance)
                    state.withLock { $0.verdicts.append(verdict) }
                } catch {
                    state.withLock { $0.failure = $0.failure ?? error }
                }
            }
        }
        let result = state.withLock { $0 }
        if let failure = result.failure { throw failure }
        return report(result.verdicts, readBytes: result.doneBytes)
    }

    private struct State {
        var next = 0
        var doneBytes: UInt64 = 0
        var verdicts: [SegmentVerdict] = []
        var failure: HistoryError?

        mutating func take(_ segments: [CataloguedSegment]) -> CataloguedSegment? {
            guard failure == nil, next < segments.count else { return nil }
            next += 1
            return segments[next - 1]
        }
    }

    private static func verdict(
        on segment: CataloguedSegment, in store: any SegmentStore,
        _ advance: @escaping (Int) throws(HistoryError) -> Void
    ) throws(HistoryError) -> SegmentVerdict {
        var verdict = SegmentVerdict(
            name: segment.name, byteCount: segment.footer.fileBytes, unusable: nil, damages: [],
            recordCount: segment.name.kind == .snapshot ? 0 : segment.footer.entryCount)
        do throws(HistoryError) {
            verdict.damages = try SegmentVerifier(segment, in: store, advance: advance).run()
        } catch {
            switch error {
            case .damaged(let name, let why): verdict.unusable = .damaged(name, why)
            case .store(let failure) where failure.isOfOneSegment:
                verdict.unusable = .unreadable(segment.name, failure)
            default: throw error
            }
        }
        return verdict
    }

    /// Cuts what is damaged out of the history and asks again what can be restored.
    private func report(_ verdicts: [SegmentVerdict], readBytes: UInt64) -> VerifyReport {
        var unusable = catalogue.unusable
        var runs: [RecordRun] = []
        var snapshots: [CataloguedSegment] = []
        let byName = Dictionary(uniqueKeysWithValues: verdicts.map { ($0.name, $0) })
        for segment in catalogue.records + catalogue.snapshots {
            guard let verdict = byName[segment.name] else { continue }
            let bytes = verdict.byteCount
            if let reason = verdict.unusable {
                unusable.append(
                    UnusableSegment(name: segment.name, byteCount: bytes, reason: reason))
                continue
            }
            let lost = verdict.damages.filter { $0.first != nil }
            for damage in lost {
                let name = SegmentName(
                    first: damage.first ?? .zero, last: damage.last ?? .zero,
                    kind: segment.name.kind)
                unusable.append(
                    UnusableSegment(
                        name: name, byteCount: bytes,
                        reason: .damaged(segment.name, damage.error)))
            }
            if segment.name.kind == .snapshot {
                if lost.isEmpty { snapshots.append(segment) }
            } else {
                runs += pieces(of: segment, without: lost)
            }
        }
        let timeline = Timeline(
            runs: runs, snapshots: snapshots, unusable: unusable, tail: catalogue.tail)
        let (ranges, gaps) = timeline.restorable()
        let others = catalogue.unusable.map {
            SegmentVerdict(
                name: $0.name, byteCount: $0.byteCount, unusable: $0.reason, damages: [],
                recordCount: 0)
        }
        return VerifyReport(
            segments: (verdicts + others).sorted { $0.name < $1.name }, ranges: ranges,
            gaps: gaps, readBytes: readBytes)
    }

    /// The runs of a segment that remain between its damaged records.
    private func pieces(
        of segment: CataloguedSegment, without damages: [SegmentDamage]
    ) -> [RecordRun] {
        let whole = RecordRun(segment)
        if damages.isEmpty { return [whole] }
        // A merged segment leads only to its end, so damage anywhere costs all of it.
        guard segment.name.kind == .log, let index = try? catalogue.index(of: segment) else {
            return []
        }
        var pieces: [RecordRun] = []
        var first = segment.first.lsn
        func add(through last: LSN) {
            guard first <= last else { return }
            var piece = whole
            let base = segment.first.lsn.rawValue
            piece.first = index.entries[Int(first.rawValue - base)].stamp
            piece.last = index.entries[Int(last.rawValue - base)].stamp
            pieces.append(piece)
        }
        for damage in damages.sorted(by: { ($0.first ?? .zero) < ($1.first ?? .zero) }) {
            guard let from = damage.first, let to = damage.last else { continue }
            if from > first { add(through: from.previous) }
            first = max(first, to.next)
        }
        add(through: segment.last.lsn)
        return pieces
    }
}
