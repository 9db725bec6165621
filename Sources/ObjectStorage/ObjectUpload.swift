// A segment that is written front to back straight into a bucket: what ObjectStore.upload gives,
// for retention and for whoever writes where it reads. Parts go as soon as they are full.

import History
import LogFormat
import NIOCore
import ServerAPI
import Shipping

final class ObjectUpload: SegmentUpload {
    private let store: ObjectStore
    private let isSealed: Bool
    private let put: SegmentPut
    private var part = ByteBuffer()
    private var parts = 0
    private var isDone = false

    init(_ store: ObjectStore, isSealed: Bool) {
        self.store = store
        self.isSealed = isSealed
        let tag = String(UInt64.random(in: .min ... .max), radix: 16)
        // Its name is known at the end only; an object's key need not tell it.
        put = SegmentPut(
            store.volume, name: "written", tag: tag, isSealed: isSealed, isPaced: false,
            mayResume: false)
    }

    deinit { abort() }

    /// How long it becomes is not known: later parts are larger, as there are 10,000 at the most.
    private var partBytes: Int { store.volume.client.access.partBytes << min(parts / 2000, 4) }

    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        guard !isDone else { throw StoreError(.put, store.label, .refused("given up")) }
        put.pass(bytes)
        var rest = bytes
        while !rest.isEmpty {
            let count = min(rest.count, partBytes - part.readableBytes)
            part.writeBytes(UnsafeRawBufferPointer(rebasing: rest[..<count]))
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            if part.readableBytes >= partBytes { try flush(store.label) }
        }
    }

    private func flush(_ object: String) throws(StoreError) {
        do throws(ShipError) {
            try put.upload.add(part) { _ in }
        } catch {
            abort()
            throw StoreError(.put, object, error, remote: store.label)
        }
        parts += 1
        part = ByteBuffer()
    }

    func commit(as name: SegmentName) throws(StoreError) {
        precondition(!isDone)
        defer { abort() }
        do throws(ShipError) {
            guard let state = try store.volume.chain.opened() else { throw store.volume.noVolume }
            if state.segments["\(name)"] != nil { throw SegmentPut.exists(name) }
            let facts: SegmentFacts
            do throws(ErrorReply) {
                facts = try put.facts(state)
                guard facts.name == name else {
                    throw ErrorReply(.damaged, "the segment is \(facts.name), not \(name)")
                }
            } catch { throw .rejected(error) }
            if put.upload.isInParts {
                if part.readableBytes > 0 { try put.upload.add(part) { _ in } }
                try put.upload.complete()
            } else {
                var whole = put.upload.begin(part, sha256: put.sha256)
                while !whole.isFed { try whole.feed { _ in } }
                try put.upload.finish(whole)
            }
            _ = try put.enter(facts, mayBeThere: false) { Self.following($0, facts) }
            isDone = true
            store.forget(name)
        } catch { throw StoreError(.put, "\(name)", error, remote: store.label) }
    }

    /// What it follows: the head, where it goes on from it; or it retells what is there.
    private static func following(
        _ state: ChainState, _ facts: SegmentFacts
    ) -> (after: String?, isGap: Bool, isRewrite: Bool) {
        guard facts.name.kind != .snapshot, let head = state.head else {
            return (nil, false, false)
        }
        if facts.name.kind == .merged, facts.last.lsn.rawValue <= head.lsn {
            return (nil, false, true)
        }
        guard let digest = head.digest else { return (nil, false, false) }
        let isNext = facts.name.kind == .merged || facts.predecessor == digest
        return (isNext ? digest : nil, false, false)
    }

    func abort() {
        guard !isDone else { return }
        isDone = true
        put.upload.abandon(keepingParts: false)
        part = ByteBuffer()
    }
}
