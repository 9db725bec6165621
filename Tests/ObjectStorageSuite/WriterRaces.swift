// Two writers at one volume, again and again: each entry of the chain has one winner, what the
// winner was told is there, and what the loser was told is not. Runs at any store.

import BlockModel
import Foundation
import History
import LogFormat
import ObjectStorage
import SegmentStoreSuite
import ServerAPI
import Shipping
import Synchronization

/// Races for one volume.
public enum WriterRaces {
    private enum Outcome: Sendable {
        case acknowledged
        case lost(String)
        case failed(String)
    }

    /// In each round both writers hold the volume for theirs, by the same generation, and ship the
    /// next segment at the same moment: each its own bytes under the same name.
    public static func run(_ place: ObjectPlace, rounds: Int) throws {
        let prefix = place.freshPrefix()
        let first = try place.attached(prefix, writer: "a")
        let maker = SegmentMaker(seed: 50)
        var wanted = try ship(first, maker, 1)
        var current = try ObjectTarget(first).state()?.head
        let volumes = [first, try place.volume(prefix, writer: "b")]
        var wins = [0, 0]
        for round in 0..<rounds {
            // The same LSNs, other bytes: a fork if both were taken.
            let head = current
            let makers = [
                maker.fork(seed: UInt64(4 * round + 1000)),
                maker.fork(seed: UInt64(4 * round + 1002)),
            ]
            let sources = makers.map { MemorySource($0.log(records: 1, bytes: 600)) }
            let generation = try volumes[0].state()?.generation ?? 0
            let outcomes = Mutex<[Outcome?]>([nil, nil])
            let done = Mutex<[VolumeReply.Head?]>([nil, nil])
            together(2) { index in
                let name = index == 0 ? "a" : "b"
                do throws(ShipError) {
                    // Whoever holds it has to be faster with the segment than the other with this.
                    _ = try volumes[index].takeOver(
                        WriterRequest(writer: name, host: name, generation: generation))
                    let reply = try ObjectTarget(volumes[index])
                        .put(sources[index].shipment(after: head)) { _ in }
                    done.withLock { $0[index] = reply.head }
                    outcomes.withLock { $0[index] = .acknowledged }
                } catch {
                    let isLoss =
                        isFenced(error) || isRejected(error, .exists)
                        || isRejected(error, .old) || isRejected(error, .fork)
                    outcomes.withLock {
                        $0[index] = isLoss ? .lost("\(error)") : .failed("\(error)")
                    }
                }
            }
            let found = outcomes.withLock { $0 }
            for case .failed(let text) in found.compactMap(\.self) {
                throw ObjectComplaint("round \(round): \(text)")
            }
            let winners = found.indices.filter { index in
                if case .acknowledged = found[index] { true } else { false }
            }
            try expect(winners.count <= 1, "round \(round): one winner of \(found)")
            let reader = ObjectStore(try place.volume(prefix, writer: nil))
            if let winner = winners.first {
                wins[winner] += 1
                wanted[sources[winner].name] = sources[winner].bytes
                current = done.withLock { $0[winner] }
                maker.adopt(makers[winner])
            }
            let there = try reader.everything()
            try expect(there == wanted, "round \(round): the history is the winner's: \(found)")
            try expect(try reader.volume.state()?.head == current, "round \(round): and the head")
        }
        try expect(wins[0] + wins[1] >= rounds / 2, "most rounds have a winner: \(wins)")
    }
}
