// The truth about a volume in a bucket: a chain of small numbered objects, each created once and
// never changed. Everything below PREFIX:
//
//   chain/0000000000000001       what the volume is (ChainEntry.swift, kind `volume`)
//   chain/0000000000000002 …     what happened to it, in one sequence for all writers: a segment
//                                became part of the history · somebody took the volume over · the
//                                ladder changed · segments were pruned · their objects are gone
//   state/0000000000000064 …     checkpoints: the fold of the entries so far, now and then
//   segments/NAME.TAG            the bytes of segments; there before the entry that names them
//   leases/ID                    who reads what (ObjectLease.swift)
//
// Invariants:
//   1. Entry N+1 names the SHA-256 of entry N. Two chains that differ anywhere differ from there
// on.
//   2. An entry is created with `If-None-Match: *`: of all who want number N exactly one gets it.
//      Whoever did not reads what is there and decides anew. So there is one writer at a time by
//      the store's atomicity alone, without a clock or a lock: who takes a volume over takes a
//      number, and a writer who slept through that loses at its next entry, as that number is gone.
//   3. A create whose answer was lost is found by its bytes: each entry carries a nonce.
//   4. Only the fold counts. A listing is a hint where to begin (the newest checkpoint it shows);
//      from there entries are got by number until one is missing, so a listing that lags or lies
//      does no harm. An object that no entry names is nothing, and is swept some day.
//   5. Reading costs one request for news; opening one listing, one checkpoint and the entries
//      behind it, several at once; a volume that nobody asks about makes no requests.
//
// Threads: any that may block. One at a time reads on or appends; `current` never waits.

import Foundation
import History
import ServerAPI
import Shipping
import Synchronization

/// The chain of one volume. Calls block.
final class VolumeChain: Sendable {
    let client: ObjectClient

    private struct Known {
        var state: ChainState?
        var isOpen = false
        /// The newest checkpoint is of this entry.
        var checkpoint: UInt64 = 0
        /// Whether creates are conditional; otherwise a single writer looks before it writes.
        var isConditional = true
    }
    private let known = Mutex(Known())
    /// Held while the chain is read or made longer.
    private let turn = Mutex(())

    /// So many entries lie between checkpoints.
    static let checkpointEvery: UInt64 = 64
    private static let racesMax = 64
    private static let readsMax = 3

    init(_ client: ObjectClient) { self.client = client }

    /// As far as it was read; nil: not yet, or there is no volume.
    var current: ChainState? { known.withLock { $0.state } }

    /// The store has no conditional puts, and the user vouches for a single writer.
    func giveUpConditions() { known.withLock { $0.isConditional = false } }

    var isConditional: Bool { known.withLock { $0.isConditional } }

    static func name(_ number: UInt64) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 16 - digits.count)) + digits
    }

    func key(_ number: UInt64) -> String { client.url.key("chain/\(Self.name(number))") }

    private func stateKey(_ number: UInt64) -> String {
        client.url.key("state/\(Self.name(number))")
    }

    // MARK: - reading

    /// Where the volume stands now; nil: there is none.
    func refresh() throws(ShipError) -> ChainState? {
        try turn.withLock { _ throws(ShipError) in try readOn() }
    }

    /// As far as it is known, or else as `refresh`.
    func opened() throws(ShipError) -> ChainState? {
        if let state = current { return state }
        return try refresh()
    }

    /// In turn.
    private func readOn() throws(ShipError) -> ChainState? {
        let (state, isOpen) = known.withLock { ($0.state, $0.isOpen) }
        guard isOpen else { return try open() }
        let next = try read(from: state, width: 1)
        known.withLock { $0.state = next }
        return next
    }

    private func open() throws(ShipError) -> ChainState? {
        let prefix = client.url.key("state/")
        // The newest: a store lists in the order of keys.
        for object in try client.list(prefix).objects.reversed().prefix(Self.readsMax) {
            guard let number = UInt64(object.key.dropFirst(prefix.count)),
                let bytes = try client.get(object.key),
                let (state, _) = try? ChainBytes.decode(ChainState.self, bytes),
                state.number == number, state.volume != nil
            else { continue }
            do throws(ShipError) {
                return take(try read(from: state, width: client.access.connections), number)
            } catch {
                // One that does not fit what lies behind it is no help; the entries tell all.
                guard case .rejected(let reply) = error, reply.code == .damaged else { throw error }
            }
        }
        return take(try read(from: nil, width: client.access.connections), 0)
    }

    private func take(_ state: ChainState?, _ checkpoint: UInt64) -> ChainState? {
        known.withLock { known in
            known.state = state
            known.isOpen = true
            known.checkpoint = checkpoint
        }
        return state
    }

    /// Folds the entries behind `start` until one is missing, several requests at once.
    private func read(from start: ChainState?, width: Int) throws(ShipError) -> ChainState? {
        var state = start
        var width = max(1, width)
        while true {
            let first = (state?.number ?? 0) + 1
            let numbers = (0..<UInt64(width)).map { first + $0 }
            var started = numbers.map { client.beginGet(key($0)) }[...]
            defer { for one in started { one.pending.cancel() } }
            var isAtEnd = false
            for number in numbers {
                guard let one = started.popFirst() else { break }
                let bytes = try client.content(client.settle(one))
                guard let bytes, !isAtEnd else {
                    isAtEnd = true
                    continue
                }
                state = try fold(number, bytes, into: state)
            }
            if isAtEnd { return state }
            width = max(width, client.access.connections)
        }
    }

    private func fold(
        _ number: UInt64, _ bytes: [UInt8], into state: ChainState?
    ) throws(ShipError) -> ChainState {
        var bytes = bytes
        var reads = 1
        while true {
            do throws(ChainFault) {
                let (entry, digest) = try ChainBytes.decode(ChainEntry.self, bytes)
                guard entry.number == number else { throw .broken("it is entry \(entry.number)") }
                guard var next = state else { return try ChainState(entry, digest: digest) }
                try next.apply(entry, digest: digest)
                return next
            } catch {
                // What came may not be what is there.
                guard error == .changed, reads < Self.readsMax,
                    let again = try client.get(key(number))
                else { throw failure(error, number) }
                reads += 1
                bytes = again
            }
        }
    }

    private func failure(_ fault: ChainFault, _ number: UInt64) -> ShipError {
        switch fault {
        case .newer(let format):
            .refused("entry \(number) of \(client.label) is of format \(format): a newer logdisk")
        case .changed:
            .rejected(
                ErrorReply(.damaged, "entry \(number) of \(client.label) is not as it was written"))
        case .broken(let what):
            .rejected(ErrorReply(.damaged, "the chain of \(client.label) is damaged: \(what)"))
        }
    }

    // MARK: - appending

    /// Makes the chain longer by one entry. `decide` sees where the volume stands and gives the
    /// change, or nil when there is nothing to do, or throws; it is asked again with every entry
    /// that somebody else was faster with. Gives the state behind it. When it throws
    /// `.unreachable`, the entry may be there all the same: the next look tells.
    func append(
        by writer: String,
        _ decide: (ChainState?) throws(ShipError) -> ChainChange?
    ) throws(ShipError) -> ChainState? {
        try turn.withLock { _ throws(ShipError) in
            if !known.withLock({ $0.isOpen }) { _ = try open() }
            for _ in 0..<Self.racesMax {
                let state = current
                guard let change = try decide(state) else { return state }
                if let next = try create(change, by: writer, after: state) {
                    known.withLock { $0.state = next }
                    checkpoint(next)
                    return next
                }
                _ = try readOn()
            }
            throw .busy(seconds: 5, "others write to \(client.label) all the time")
        }
    }

    /// The state behind the entry; nil: somebody else has its number.
    private func create(
        _ change: ChainChange, by writer: String, after state: ChainState?
    ) throws(ShipError) -> ChainState? {
        let entry = ChainEntry(
            number: (state?.number ?? 0) + 1, previous: state?.digest, nonce: Self.nonce(),
            seconds: ObjectClient.now(), writer: writer, change: change)
        let (bytes, digest) = ChainBytes.encode(entry)
        let next: ChainState
        do throws(ChainFault) {
            if var later = state {
                try later.apply(entry, digest: digest)
                next = later
            } else {
                next = try ChainState(entry, digest: digest)
            }
        } catch { throw failure(error, entry.number) }
        return try isOurs(key(entry.number), bytes) ? next : nil
    }

    /// Creates the object; whether it is ours.
    private func isOurs(_ key: String, _ bytes: [UInt8]) throws(ShipError) -> Bool {
        let isConditional = self.isConditional
        if !isConditional, let there = try client.get(key) { return there == bytes }
        var options = ObjectClient.PutOptions(contentType: "application/json")
        options.isCreateOnly = isConditional
        do throws(ShipError) {
            switch try client.put(key, bytes, options) {
            case .made:
                if isConditional { return true }
            case .exists: break
            case .unsupported:
                throw .refused("\(client.place) does not support create-only puts")
            }
        } catch {
            // It may have happened.
            switch error {
            case .unreachable, .busy:
                guard let there = try? client.get(key) else { throw error }
                return there == bytes
            default: throw error
            }
        }
        return try client.get(key) == bytes
    }

    private static func nonce() -> String {
        let words = (0..<2).map { _ in String(UInt64.random(in: .min ... .max), radix: 16) }
        return words.joined()
    }

    /// Now and then: a reader then need not go back to the beginning. What fails is tried again
    /// with a later entry.
    private func checkpoint(_ state: ChainState) {
        let isDue = known.withLock { known in
            guard state.number >= known.checkpoint + Self.checkpointEvery else { return false }
            known.checkpoint = state.number
            return true
        }
        guard isDue else { return }
        var options = ObjectClient.PutOptions(contentType: "application/json")
        options.isCreateOnly = isConditional
        let (bytes, _) = ChainBytes.encode(state)
        _ = try? client.put(stateKey(state.number), bytes, options)
    }

    /// Deletes checkpoints but the newest ones.
    func dropOldCheckpoints() throws(ShipError) {
        let objects = try client.list(client.url.key("state/")).objects
        for object in objects.dropLast(Self.readsMax) { _ = try client.delete(object.key) }
    }
}
