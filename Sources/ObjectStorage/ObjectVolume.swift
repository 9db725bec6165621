// A volume in object storage as its owner and its readers see it: where it stands, whose it is, its
// ladder. The chain decides (VolumeChain.swift); here is what may be appended to it, by the same
// rules as a log server has. What is deleted and when is in ObjectVolume+Sweep.swift.
//
// Whoever appends is first sure that the store honours create-only puts: it is probed once in the
// life of this object, with a race of real puts. A store that does not is refused, unless the user
// vouches for a single writer.
//
// Threads: any that may block.

import BlockModel
import Foundation
import History
import LogFormat
import ServerAPI
import Shipping
import Synchronization

/// One volume in one bucket. Calls block.
public final class ObjectVolume: Sendable {
    public let client: ObjectClient
    let chain: VolumeChain
    /// So long the objects of pruned segments stay, for those who read them and cannot say so.
    public let graceSeconds: Int64
    private struct State {
        var writer: String?
        var isProbed = false
        /// Objects that an entry will name soon.
        var underWay: [String: Int] = [:]
        /// When objects without an entry were looked for, seconds.
        var sweptSeconds: Int64?
    }
    private let inner: Mutex<State>

    /// `writer` nil: for readers. Connects to nothing yet.
    public init(_ client: ObjectClient, writer: String?, graceSeconds: Int64 = 86_400) {
        self.client = client
        self.graceSeconds = graceSeconds
        chain = VolumeChain(client)
        inner = Mutex(State(writer: writer))
    }

    /// What is in messages.
    public var label: String { client.label }
    /// Who we are; nil: a reader.
    public var writer: String? { inner.withLock { $0.writer } }
    /// A standing warning: nothing but the user's word keeps a second writer away.
    public var isUnguarded: Bool { !chain.isConditional }

    /// The last part of the prefix.
    var name: String {
        client.url.prefix.split(separator: "/").last.map(String.init) ?? client.url.bucket
    }

    // MARK: - where it stands

    /// Where the volume stands; nil when there is none.
    public func state() throws(ShipError) -> VolumeReply? {
        try chain.refresh()?.reply(name: name)
    }

    /// Makes the volume, or confirms that it is the one that is there and that we write it.
    public func attach(_ request: VolumeRequest) throws(ShipError) -> VolumeReply {
        guard let uuid = VolumeID(request.uuid), request.sizeBytes > 0,
            request.sizeBytes % UInt64(Sector.bytes) == 0, !request.writer.isEmpty
        else { throw .rejected(ErrorReply(.malformed, "this is no volume")) }
        let keep = try Self.ladder(request.keep)
        try mustBeWritable()
        inner.withLock { $0.writer = request.writer }
        let state = try chain.append(by: request.writer) { (state) throws(ShipError) in
            guard let state else {
                return .volume(
                    VolumeFacts(
                        uuid: uuid.description, sizeBytes: request.sizeBytes,
                        isSealed: request.isSealed, keep: keep, host: request.host))
            }
            guard state.uuid == uuid.description, state.sizeBytes == request.sizeBytes,
                state.isSealed == request.isSealed
            else {
                throw .rejected(
                    ErrorReply(
                        .otherVolume, "\(self.label) is another volume (UUID \(state.uuid))",
                        hint: "choose another prefix"))
            }
            try Self.mustWrite(request.writer, state)
            return nil
        }
        return try reply(state)
    }

    /// Makes `request.writer` the one that may write, and this object its.
    public func takeOver(_ request: WriterRequest) throws(ShipError) -> VolumeReply {
        guard !request.writer.isEmpty else {
            throw .rejected(ErrorReply(.malformed, "a writer needs a name"))
        }
        try mustBeWritable()
        let state = try chain.append(by: request.writer) { (state) throws(ShipError) in
            guard let state else { throw self.noVolume }
            if state.writer == request.writer { return nil }
            guard state.generation == request.generation else {
                throw .fenced("somebody else took the volume over meanwhile: \(state.host)")
            }
            return .takeover(
                Takeover(host: request.host, generation: state.generation + 1))
        }
        inner.withLock { $0.writer = request.writer }
        return try reply(state)
    }

    /// Changes the ladder; nil: everything is kept.
    public func setKeep(_ keep: String?) throws(ShipError) -> VolumeReply {
        let ladder = try Self.ladder(keep)
        let state = try change { (state) throws(ShipError) in
            state.keep == ladder ? nil : .keep(KeepFacts(ladder: ladder))
        }
        return try reply(state)
    }

    // MARK: - for the parts of a volume

    var noVolume: ShipError {
        .rejected(ErrorReply(.noVolume, "there is no volume at \(label)"))
    }

    private func reply(_ state: ChainState?) throws(ShipError) -> VolumeReply {
        guard let state else { throw noVolume }
        return state.reply(name: name)
    }

    static func mustWrite(_ writer: String, _ state: ChainState) throws(ShipError) {
        guard state.writer == writer else {
            throw .fenced("the volume is written by \(state.host) now")
        }
    }

    private static func ladder(_ text: String?) throws(ShipError) -> String? {
        guard let text else { return nil }
        do throws(LadderError) {
            return "\(try Ladder(parsing: text))"
        } catch {
            throw .rejected(ErrorReply(.malformed, "the ladder '\(text)' is not understood"))
        }
    }

    /// Appends as the writer.
    func change(
        _ decide: (ChainState) throws(ShipError) -> ChainChange?
    ) throws(ShipError) -> ChainState {
        guard let writer else { throw .refused("\(label) is open for reading only") }
        try mustBeWritable()
        let state = try chain.append(by: writer) { (state) throws(ShipError) in
            guard let state else { throw self.noVolume }
            try Self.mustWrite(writer, state)
            return try decide(state)
        }
        guard let state else { throw noVolume }
        return state
    }

    /// Whether create-only puts hold, found out once.
    private func mustBeWritable() throws(ShipError) {
        guard !inner.withLock({ $0.isProbed }) else { return }
        let verdict = try ObjectProbe.createOnly(client, rounds: 2).verdict
        if verdict != .honoured {
            guard client.access.isSingleWriter else {
                throw .refused(
                    "\(client.place) \(verdict == .ignored ? "ignores" : "does not support") "
                        + "create-only puts (If-None-Match), so a second writer could overwrite "
                        + "this one's history; --single-writer goes on without")
            }
            chain.giveUpConditions()
        }
        inner.withLock { $0.isProbed = true }
    }

    // MARK: - objects that an entry will name

    func hold(_ object: String) { inner.withLock { $0.underWay[object, default: 0] += 1 } }

    func release(_ object: String) {
        inner.withLock { state in
            let count = (state.underWay[object] ?? 1) - 1
            state.underWay[object] = count > 0 ? count : nil
        }
    }

    func isUnderWay(_ object: String) -> Bool { inner.withLock { $0.underWay[object] != nil } }

    /// Whether objects without an entry should be looked for; once in so long.
    func mayLookForOrphans(nowSeconds: Int64) -> Bool {
        inner.withLock { state in
            if let last = state.sweptSeconds, nowSeconds - last < graceSeconds { return false }
            state.sweptSeconds = nowSeconds
            return true
        }
    }
}
