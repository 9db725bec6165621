// Bytes of remote segments that are fetched before they are read, over several connections at once,
// so that a round trip is paid once and not per block. What is expected is cut into pieces:
//
//   waiting ──fetcher takes it──► loading ──► ready ──read to its end──► gone
//      └──a reader wants it now: gone, it reads itself      └──passed over, room needed: gone
//
// Tails (footer, table, index) are kept when they were read, as they are read again.
//
// Invariants, under `condition`: the pieces of a segment are sorted and disjoint; `heldBytes` is
// the sum of the loading and ready pieces that are not kept, at most `heldBytesMax` but for one
// piece; `keptBytes` that of the ready kept ones. A wrong or failed piece never counts: whoever
// reads there asks the server itself and learns why.

import Foundation
import History
import LogFormat

final class ReadAhead: @unchecked Sendable {
    // @unchecked: variables are used under `condition`; a loading piece's memory by its fetcher.
    typealias Fetch =
        @Sendable (SegmentName, UnsafeMutableRawBufferPointer, UInt64) throws(StoreError) -> Void

    /// Why bytes are fetched.
    enum Reason {
        /// Somebody said that they will be read, once.
        case said
        /// They follow what is being read.
        case guessed
        /// They may be read often.
        case kept
    }

    private final class Piece {
        enum State { case waiting, loading, ready, failed }
        let name: SegmentName
        let range: Range<UInt64>
        let reason: Reason
        /// Rises with each piece that is expected.
        let number: UInt64
        var state = State.waiting
        var memory: UnsafeMutableRawBufferPointer?

        init(_ name: SegmentName, _ range: Range<UInt64>, _ reason: Reason, _ number: UInt64) {
            (self.name, self.range, self.reason, self.number) = (name, range, reason, number)
        }

        deinit { memory?.deallocate() }

        var count: Int { Int(range.upperBound - range.lowerBound) }
    }

    static let heldBytesMax = 64 << 20
    static let keptBytesMax = 32 << 20
    static let fetchersMax = 16
    private static let pieceBytesMax: UInt64 = 1 << 20
    /// Pieces that may be read out of order.
    private static let disorderMax: UInt64 = 64
    private static let lingerSeconds = 2.0

    private let fetch: Fetch
    private let condition = NSCondition()
    private var pieces: [SegmentName: [Piece]] = [:]
    private var queue: [Piece] = []
    private var queueStart = 0
    private var heldBytes = 0
    private var held: [Piece] = []
    private var keptBytes = 0
    private var kept: [Piece] = []
    private var nextNumber: UInt64 = 0
    /// The greatest number that was read.
    private var readNumber: UInt64 = 0
    private var fetchers = 0
    private var idleFetchers = 0
    private var isStopped = false

    init(_ fetch: @escaping Fetch) { self.fetch = fetch }

    func stop() {
        condition.lock()
        isStopped = true
        condition.broadcast()
        condition.unlock()
    }

    // MARK: - Expecting

    /// Fetches what of `range` is not there or on its way.
    func expect(_ name: SegmentName, _ range: Range<UInt64>, _ reason: Reason) {
        condition.lock()
        defer { condition.unlock() }
        guard !isStopped else { return }
        for gap in gaps(in: range, of: name) {
            var start = gap.lowerBound
            while start < gap.upperBound {
                let end = min(start + Self.pieceBytesMax, gap.upperBound)
                let piece = Piece(name, start..<end, reason, nextNumber)
                nextNumber += 1
                queue.append(piece)
                var list = pieces[name] ?? []
                list.insert(
                    piece, at: list.firstIndex { $0.range.lowerBound > start } ?? list.count)
                pieces[name] = list
                start = end
            }
        }
        let waiting = queue.count - queueStart
        while idleFetchers < waiting, fetchers < Self.fetchersMax {
            fetchers += 1
            idleFetchers += 1
            Thread.detachNewThread { self.fetchPieces() }
        }
        condition.broadcast()
    }

    /// Forgets everything of a segment.
    func forget(_ name: SegmentName) {
        condition.lock()
        for piece in pieces[name] ?? [] where piece.state != .loading { remove(piece) }
        // What is loading is of a segment that is gone, and must not be taken for another's.
        for piece in pieces[name] ?? [] { piece.state = .failed }
        condition.broadcast()
        condition.unlock()
    }

    private func gaps(in range: Range<UInt64>, of name: SegmentName) -> [Range<UInt64>] {
        var found: [Range<UInt64>] = []
        var start = range.lowerBound
        for piece in pieces[name] ?? [] where piece.range.overlaps(range) {
            if piece.range.lowerBound > start { found.append(start..<piece.range.lowerBound) }
            start = max(start, piece.range.upperBound)
        }
        if start < range.upperBound { found.append(start..<range.upperBound) }
        return found
    }

    // MARK: - Reading

    /// What a read found.
    struct Outcome {
        /// Whether any of it was said before to be read, or is kept.
        var wasSaid = false
    }

    /// Fills `target` with the bytes at `offset`, from what was fetched or by fetching.
    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) -> Outcome {
        var outcome = Outcome()
        var position = offset
        let end = offset + UInt64(target.count)
        while position < end {
            condition.lock()
            let step = next(name, position..<end, into: target, offset, &outcome)
            condition.unlock()
            if case .fetch(let range) = step {
                let part = Int(range.lowerBound - offset)..<Int(range.upperBound - offset)
                try fetch(
                    name, UnsafeMutableRawBufferPointer(rebasing: target[part]), range.lowerBound)
                position = range.upperBound
            } else if case .copied(let to) = step {
                position = to
            }
        }
        return outcome
    }

    private enum Step {
        case copied(to: UInt64)
        case fetch(Range<UInt64>)
    }

    /// Under the lock, which it gives up while it waits for a piece that is on its way.
    private func next(
        _ name: SegmentName, _ range: Range<UInt64>, into target: UnsafeMutableRawBufferPointer,
        _ offset: UInt64, _ outcome: inout Outcome
    ) -> Step {
        while true {
            let near = (pieces[name] ?? []).filter { $0.range.overlaps(range) }
            if near.contains(where: { $0.reason != .guessed }) { outcome.wasSaid = true }
            guard let first = near.first, first.range.lowerBound <= range.lowerBound,
                first.state == .loading || first.state == .ready
            else {
                // Nobody fetches these: they go in one request, up to what somebody does.
                var end = range.upperBound
                for piece in near {
                    if piece.state == .loading || piece.state == .ready {
                        end = min(end, piece.range.lowerBound)
                        break
                    }
                    wasRead(piece)
                    remove(piece)
                }
                return .fetch(range.lowerBound..<end)
            }
            guard first.state == .ready, let memory = first.memory else {
                condition.wait()
                continue
            }
            let end = min(first.range.upperBound, range.upperBound)
            let from = Int(range.lowerBound - first.range.lowerBound)
            let count = Int(end - range.lowerBound)
            UnsafeMutableRawBufferPointer(
                rebasing: target[Int(range.lowerBound - offset)...]
            ).copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[from..<from + count]))
            if first.reason != .kept, end == first.range.upperBound {
                wasRead(first)
                remove(first)
            }
            return .copied(to: end)
        }
    }

    private func wasRead(_ piece: Piece) { readNumber = max(readNumber, piece.number) }

    /// Takes a piece out of everything but the queue, where it is skipped.
    private func remove(_ piece: Piece) {
        guard var list = pieces[piece.name], let i = list.firstIndex(where: { $0 === piece })
        else { return }
        list.remove(at: i)
        pieces[piece.name] = list.isEmpty ? nil : list
        if piece.state == .ready {
            if piece.reason == .kept {
                keptBytes -= piece.count
                kept.removeAll { $0 === piece }
            } else {
                heldBytes -= piece.count
                held.removeAll { $0 === piece }
            }
        }
        if piece.state == .waiting || piece.state == .ready { piece.state = .failed }
        condition.broadcast()
    }

    // MARK: - Fetching

    private func fetchPieces() {
        condition.lock()
        while let piece = take() {
            idleFetchers -= 1
            condition.unlock()
            let memory = UnsafeMutableRawBufferPointer.allocate(
                byteCount: piece.count, alignment: 16)
            var isGood = true
            do throws(StoreError) {
                try fetch(piece.name, memory, piece.range.lowerBound)
            } catch { isGood = false }
            condition.lock()
            idleFetchers += 1
            piece.memory = memory
            arrived(piece, isGood: isGood)
        }
        fetchers -= 1
        idleFetchers -= 1
        condition.unlock()
    }

    private func arrived(_ piece: Piece, isGood: Bool) {
        let isWanted = isGood && piece.state == .loading
        if piece.reason == .kept {
            if isWanted {
                piece.state = .ready
                kept.append(piece)
                keptBytes += piece.count
                while keptBytes > Self.keptBytesMax, let oldest = kept.first { remove(oldest) }
            }
        } else if isWanted {
            piece.state = .ready
            held.append(piece)
        } else {
            heldBytes -= piece.count
        }
        if !isWanted {
            piece.state = .failed
            remove(piece)
        }
        condition.broadcast()
    }

    /// The next piece to fetch; nil when the thread shall end. Under the lock.
    private func take() -> Piece? {
        var limit = Date(timeIntervalSinceNow: Self.lingerSeconds)
        while !isStopped {
            while queueStart < queue.count, queue[queueStart].state != .waiting { queueStart += 1 }
            if queueStart > 1000 || queueStart == queue.count {
                queue.removeFirst(queueStart)
                queueStart = 0
            }
            if queueStart < queue.count {
                let piece = queue[queueStart]
                if piece.reason == .kept || hasRoom(for: piece.count) {
                    queueStart += 1
                    piece.state = .loading
                    if piece.reason != .kept { heldBytes += piece.count }
                    return piece
                }
                limit = Date(timeIntervalSinceNow: Self.lingerSeconds)
            }
            if !condition.wait(until: limit), queueStart == queue.count || idleFetchers > 1 {
                return nil
            }
        }
        return nil
    }

    /// Drops pieces that were passed over when there is none.
    private func hasRoom(for count: Int) -> Bool {
        while heldBytes > 0, heldBytes + count > Self.heldBytesMax {
            guard
                let old = held.first(where: { $0.number + Self.disorderMax < readNumber })
            else { return false }
            remove(old)
        }
        return true
    }
}
