// All remotes of an open volume: a shipper with a thread each. Settings are read from their files
// at the start and when a command says that they changed.

import BlockModel
import CLinux
import CommandText
import DiskIO
import Foundation
import History
import Logging
import ProtectedVolume
import Shipping
import Synchronization

final class VolumeShipping: Sendable {
    private struct Running {
        var config: RemoteConfig
        var shipper: Shipper
        var target: ConfiguredTarget
        var pruner: RemotePruner
        var ended: DispatchSemaphore
    }
    private let service: VolumeService
    private let holders = HeldWriters()
    private let folder: RemoteFolder
    private let traffic = OwnTraffic()
    private let running = Mutex<[Running]>([])
    /// One change at a time.
    private let changing = Mutex(())
    /// What the volume's store shall keep; nil: what it was told before.
    private let storeKeep: String?

    init(_ service: VolumeService, storeKeep: String? = nil) {
        self.service = service
        self.storeKeep = storeKeep
        folder = RemoteFolder(service.path, object: service.object)
    }

    /// Reads the settings: starts what is new, ends what is gone, restarts what changed.
    func reload() throws(CommandFailure) {
        try changing.withLock { _ throws(CommandFailure) in
            let configs = try folder.all()
            for old in running.withLock({ $0 }) {
                guard let config = configs.first(where: { $0.name == old.config.name }) else {
                    end(old)
                    continue
                }
                var same = config
                same.isPaused = old.config.isPaused
                if same == old.config {
                    old.shipper.pause(config.isPaused)
                    running.withLock { running in
                        for i in running.indices where running[i].config.name == config.name {
                            running[i].config = config
                        }
                    }
                } else {
                    end(old)
                }
            }
            for config in configs
            where !running.withLock({ $0.contains { $0.config.name == config.name } }) {
                try start(config)
            }
        }
    }

    private func start(_ config: RemoteConfig) throws(CommandFailure) {
        let (shipper, target) = try shipper(config)
        let pruner = RemotePruner(
            service, config, target, keep: config.role == .store ? storeKeep : nil)
        let ended = DispatchSemaphore(value: 0)
        let thread = Thread {
            clinux_thread_name("ship")
            _ = clinux_thread_background(10)  // without it the thread is only less modest
            shipper.run()
            ended.signal()
        }
        running.withLock {
            $0.append(
                Running(
                    config: config, shipper: shipper, target: target, pruner: pruner, ended: ended))
        }
        thread.start()
        pruner.start()
    }

    /// A shipper that nobody runs yet.
    func shipper(
        _ config: RemoteConfig
    ) throws(CommandFailure) -> (Shipper, ConfiguredTarget) {
        let isStore = config.role == .store
        let journal = VolumeJournal(service, isForStore: isStore, holders)
        var setup = Shipper.Setup(
            name: config.name, settings: try config.settings(),
            request: config.request(journal.identity))
        setup.interface = config.watchedInterface()
        setup.isPaused = config.isPaused
        setup.traffic = traffic
        do throws(RemoteSetupError) {
            setup.key = try config.key()
        } catch {
            throw CommandFailure(error, object: service.object)
        }
        let (folder, log, name, service) = (self.folder, service.log, config.name, self.service)
        let stop = StopFlag()
        let target = ConfiguredTarget(config, traffic: traffic) { stop.isSet }
        let shipper = Shipper(
            setup, journal: journal, target: target, memory: folder.memory(name), log: log
        ) { memory in
            do throws(CommandFailure) {
                try folder.remember(memory, of: name)
                if isStore { service.removeShipped(memory) }
            } catch {
                log.warning("\(error.text(verb: "remember"))")
            }
        }
        stop.shipper.withLock { $0 = { [weak shipper] in shipper?.isEnding ?? true } }
        return (shipper, target)
    }

    /// Whether the client shall give a call up; the shipper exists after its target.
    private final class StopFlag: Sendable {
        let shipper = Mutex<(@Sendable () -> Bool)?>(nil)
        var isSet: Bool { shipper.withLock { $0 }?() ?? false }
    }

    private func end(_ one: Running) {
        one.shipper.stop()
        one.pruner.stop()
        one.ended.wait()
        running.withLock { $0.removeAll { $0.config.name == one.config.name } }
        let spool = VolumeJournal.spoolPath(service.folder.logDirectory, one.config.name)
        for name in (try? service.folder.storage.list(spool)) ?? [] {
            try? service.folder.storage.remove("\(spool)/\(name)")
        }
    }

    /// Ends all of them; what is under way goes on with the next mount.
    func stop() {
        changing.withLock { _ in
            for one in running.withLock({ $0 }) { end(one) }
        }
    }

    /// There are other segments than before: a snapshot.
    func lookAgain() {
        for one in running.withLock({ $0 }) { one.shipper.lookAgain() }
    }

    /// Ships everything that is there now, at once; of one remote, or of all.
    func shipNow(_ name: String?) throws(CommandFailure) {
        let chosen = running.withLock { $0 }.filter { name == nil || $0.config.name == name }
        if chosen.isEmpty {
            if let name { _ = try folder.read(name) }
            throw CommandFailure(
                .usage, service.object, "it has no remote",
                hint: "logdisk remote add \(service.object) NAME https://HOST:PORT/VOLUME")
        }
        let state = service.volume.status()
        if state.published.lsn > state.durable.lsn, state.health == .good {
            _ = try translating(service.object) { try service.volume.barrier() }
        }
        for one in chosen { one.shipper.shipNow() }
    }

    func reports() -> [RemoteReport] {
        running.withLock { $0 }.map { one in
            var report = RemoteReport(one.config, one.shipper.status())
            report.usage = one.target.usage
            report.retention = one.pruner.last
            return report
        }
    }
}
