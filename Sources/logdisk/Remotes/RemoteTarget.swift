// From a remote's settings to what speaks to it. That is made anew when a shipper attaches:
// secrets, certificates and key are read again then, so that new ones count.

import CLinux
import CommandText
import Foundation
import History
import LogFormat
import ServerAPI
import Shipping
import Synchronization

extension RemoteConfig {
    var place: RemotePlace {
        var place = RemotePlace(url: url)
        (place.tokenFile, place.caFiles, place.bind) = (tokenFile, ca, bind)
        if let object { place.object = object }
        return place
    }

    /// Opens it as the one that writes there.
    func open(
        traffic: OwnTraffic? = nil, isCancelled: @escaping @Sendable () -> Bool
    ) throws(RemoteSetupError) -> any VolumeRemote {
        try place.open(writer: writer, traffic: traffic, isCancelled: isCancelled)
    }

    /// The key that segments are sealed with; nil: they go as they are.
    func key() throws(RemoteSetupError) -> SealingKey? {
        guard let keyFile else { return nil }
        do throws(KeyFileError) {
            return try KeyFile.read(keyFile)
        } catch { throw RemoteSetupError("\(error)") }
    }

    /// The interface to watch: as set, or that of the route to the remote. Resolves names.
    func watchedInterface() -> String? {
        if let interface { return interface }
        if let bind, NetworkInterfaces.exists(bind) { return bind }
        guard let host = try? place.host() else { return nil }
        for address in NetworkInterfaces.addresses(of: host) {
            if let found = NetworkInterfaces.leading(to: address) { return found }
        }
        return nil
    }

    /// Who we are and what the volume is.
    func request(_ identity: SegmentIdentity) -> VolumeRequest {
        VolumeRequest(
            uuid: identity.volume.description, sizeBytes: identity.volumeBytes, writer: writer,
            host: ProcessInfo.processInfo.hostName, isSealed: keyFile != nil, keep: keep)
    }
}

extension RemoteConfig {
    /// A remote that is reached as a reading command was told to.
    init(name: String, url: String, _ files: RemoteAccessFiles) {
        self.init(name: name, url: url)
        tokenFile = files.token
        ca = files.ca.map { [$0] } ?? []
        keyFile = files.key
        if place.kind == .objectStorage { object = files.object }
    }
}

/// A remote, opened when it is needed. Any thread may call.
final class ConfiguredTarget: ShipTarget {
    private let config: RemoteConfig
    private let traffic: OwnTraffic?
    private let isCancelled: @Sendable () -> Bool
    private struct State {
        var remote: (any VolumeRemote)?
        var meter = RequestMeter()
    }
    private let opened = Mutex(State())

    init(
        _ config: RemoteConfig, traffic: OwnTraffic? = nil,
        isCancelled: @escaping @Sendable () -> Bool
    ) {
        self.config = config
        self.traffic = traffic
        self.isCancelled = isCancelled
    }

    var label: String { config.url }
    /// What is open now; nil before the first time.
    var remote: (any VolumeRemote)? { opened.withLock { $0.remote } }
    var load: Double? { remote?.target.load }

    /// What was asked since the start; nil where nobody counts.
    var usage: RemoteReport.Usage? {
        opened.withLock { $0.meter.look($0.remote?.usage, now: clinux_monotonic_ns()) }
    }

    private func made(isNew: Bool = false) throws(ShipError) -> any ShipTarget {
        if !isNew, let known = remote { return known.target }
        do throws(RemoteSetupError) {
            let made = try config.open(traffic: traffic, isCancelled: isCancelled)
            opened.withLock { state in
                state.meter.end(state.remote?.usage)
                state.remote?.rest()
                state.remote = made
            }
            return made.target
        } catch {
            throw .refused("\(error)")
        }
    }

    func state() throws(ShipError) -> VolumeReply? { try made().state() }

    func attach(_ request: VolumeRequest) throws(ShipError) -> VolumeReply {
        try made(isNew: true).attach(request)
    }

    func put(
        _ shipment: Shipment, pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply { try put(shipment, next: [], pace: pace) }

    func put(
        _ shipment: Shipment, next: [Shipment], pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply {
        defer { _ = usage }  // notes how many there were by now
        return try made().put(shipment, next: next, pace: pace)
    }

    var nextMax: Int { remote?.target.nextMax ?? 0 }

    /// Nothing is sent for a while.
    func rest() { remote?.rest() }
}

extension CommandFailure {
    init(_ error: RemoteSetupError, object: String) {
        self.init(
            .usage, object, error.what,
            hint: error.hint ?? "look at --token-file, --ca and --bind")
    }

    /// What the remote at `url` answered, or did not, to who ships there.
    init(_ error: ShipError, remote url: String) {
        switch error {
        case .unreachable:
            self.init(
                .unreachable, url, "the remote cannot be used", cause: error.words,
                hint: RemoteKind(url: url).shipHint)
        case .busy, .full:
            self.init(.unreachable, url, "the remote takes nothing now", cause: error.words)
        case .refused, .fenced:
            self.init(
                .refused, url, "the remote refuses", cause: error.words,
                hint: RemoteKind(url: url).accessHint)
        case .rejected(let reply):
            let isRefusal: [ErrorReply.Code] = [
                .unauthenticated, .forbidden, .otherVolume, .fenced,
            ]
            let isMissing = reply.code == .noVolume
            self.init(
                isMissing ? .noSuchVolume : isRefusal.contains(reply.code) ? .refused : .failed,
                url, "the remote says no", cause: reply.what,
                hint: reply.hint ?? (isMissing ? RemoteKind(url: url).missingHint : nil))
        case .source(let failure): self.init(failure, object: url)
        case .stopped: self = .interrupted
        }
    }
}
