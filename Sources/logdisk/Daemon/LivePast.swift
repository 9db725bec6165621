// The past states of a live mount, for its folder `at`: any TARGET that replay takes is a name.
// Listed are marks and snapshots.

import BlockModel
import CommandText
import DiskIO
import Foundation
import FuseMount
import History
import LogFormat
import Logging
import ProtectedVolume
import Synchronization

final class LivePast: PastStates {
    private let service: VolumeService
    private let mountPoint: String
    /// Disks that are open, by LSN: all who open the same state share one.
    private let shown = Mutex<[UInt64: Opened]>([:])

    private struct Opened {
        weak var device: PastDevice?
    }
    /// Each holds a map of the volume and a cache: bounds the memory of the mount.
    private static let openMax = 32
    private static let cacheBytesMax = 16 << 20

    init(_ service: VolumeService, mountPoint: String) {
        self.service = service
        self.mountPoint = mountPoint
    }

    func names() -> [String] {
        do throws(CommandFailure) {
            let points = try translating(service.object) {
                _ = try service.archive()
                return try service.catalogue().points()
            }
            // A name with a slash cannot be a file's; nor can one that is too long.
            let marks = points.marks.map { "mark:\($0.name)" }
                .filter { !$0.contains("/") && $0.utf8.count <= 255 }
            return Set(marks).sorted() + points.snapshots.map { "lsn:\($0.stamp.lsn)" }
        } catch {
            service.log.error("\(error.text(verb: "list the past of"))")
            return []
        }
    }

    func find(_ name: String) -> UInt64? {
        do throws(CommandFailure) {
            let now = VolumeHistory.clock()
            let target: Target
            do throws(TargetError) {
                target = try Target.parse(name, now: now)
            } catch { return nil }  // any name that is asked for, by a shell or a search
            return try translating(service.object) {
                var history = try service.catalogue()
                if history.needsNewest(for: target, now: now) {
                    _ = try service.archive()
                    history = try service.catalogue()
                }
                return try history.resolve(target, now: now).stamp.lsn.rawValue
            }
        } catch {
            service.log.notice("at/\(name): \(error.sentence)")
            return nil
        }
    }

    func device(_ state: UInt64) throws(DeviceError) -> BlockDevice {
        let (known, count) = shown.withLock { shown in
            shown = shown.filter { $0.value.device != nil }
            return (shown[state]?.device, shown.count)
        }
        if let known { return known }
        guard count < Self.openMax else { throw DeviceError(rawValue: 24) }  // EMFILE
        do throws(CommandFailure) {
            let opened = try translating(service.object) { try open(LSN(state)) }
            let service = self.service
            let device = PastDevice(opened) { text in
                let isNew = service.problems.withLock { $0.updateValue(text, forKey: .past) }
                if isNew != text { service.log.error("\(text)") }
            }
            return shown.withLock { shown in
                if let faster = shown[state]?.device { return faster }
                shown[state] = Opened(device: device)
                return device
            }
        } catch {
            service.log.error("\(error.text(verb: "open the past of"))")
            throw error.status == .notRestorable ? DeviceError(rawValue: 2) : .io  // ENOENT
        }
    }

    private func open(_ lsn: LSN) throws -> PastState {
        let leases = service.leases
        let lease = Lease(
            purpose: "file below at", holder: "process \(getpid()) on \(mountPoint)")
        let everything = try leases.take(lease)
        defer { everything.release() }
        let history = try service.catalogue()
        let point = try history.resolve(.lsn(lsn), now: VolumeHistory.clock())
        return try PastState(
            point: point,
            view: PointInTimeView(history, at: lsn, cacheBytesMax: Self.cacheBytesMax),
            leases: leases, lease,
            over: service.base)
    }
}
