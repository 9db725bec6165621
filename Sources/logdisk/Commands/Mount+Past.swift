// logdisk mount --at: the volume as it was, read-only, beside the live one.

import CommandText
import DiskIO
import Foundation
import FuseMount
import History
import ProtectedVolume

extension Mount {
    /// Whether a past state is asked for; throws where the options do not go together.
    func isPast() throws(CommandFailure) -> Bool {
        guard at != nil else {
            guard !barrier else {
                throw CommandFailure(
                    .usage, volume, "--barrier needs --at",
                    hint: "logdisk mount \(volume) \(mountPoint) --at TARGET --barrier")
            }
            return false
        }
        let unfit = [
            ("--ring", ring != nil), ("--snapshot-every", snapshotEvery != nil),
            ("--on-full", onFull != nil), ("--keep", keep != nil), ("--idle-keeps", idleKeeps),
        ]
        if let option = unfit.first(where: { $0.1 })?.0 {
            throw CommandFailure(
                .usage, volume, "\(option) does not go with --at",
                cause: "a past state is not written to")
        }
        return true
    }

    /// Makes a branch and mounts it like any volume. One that cannot be mounted is not left.
    func mountBranch(_ directory: String) throws {
        guard let at else {
            throw CommandFailure(
                .usage, volume, "--branch needs --at",
                hint: "logdisk mount \(volume) \(mountPoint) --at TARGET --branch \(directory)")
        }
        var mount = self
        (mount.volume, mount.at, mount.branch, mount.barrier) = (directory, nil, nil, false)
        _ = try mount.daemonOptions()  // says what is wrong with them before anything is made
        try translating(mountPoint) { try FuseMount.check(mountPoint) }
        let target = try VolumeHistory.target(at, "--at")
        let parent = VolumeLocation(volume)
        try parent.mustBeVolume()
        try BranchMaker.check(directory, of: parent)  // before the work of building a view
        let state = try PastState.open(
            parent, at: target, barrier: barrier, purpose: "making a branch",
            holder: "process \(getpid()), \(PathText.canonical(directory))")
        try BranchMaker.make(directory, of: parent, on: state)
        state.release()  // the branch is named at its parent by now, and opens the state itself
        do {
            try mount.run()
        } catch {
            if VolumeFolder.holder(PathText.canonical(directory), on: DiskStorage()) == nil {
                _ = try? BranchMaker.remove(directory, parent: nil)
            }
            throw error
        }
    }

    /// Serves the past state in this process.
    func servePast() throws {
        do throws(CommandFailure) {
            try runPastDaemon()
        } catch {
            // Has no effect once the start was reported.
            if reportStart {
                StartReport.failed(error.status, message: error.text(verb: "mount")).send()
            }
            throw error
        }
    }

    private func runPastDaemon() throws(CommandFailure) {
        let location = try VolumeLocation.toRead(volume, remote)
        let target = try VolumeHistory.target(at ?? "", "--at")
        let daemon = PastDaemon(
            location, at: target, barrier: barrier, mountPoint: mountPoint, allowOther: allowOther)
        let places = Places(location, mountPoint: mountPoint)
        try daemon.run { point in
            if reportStart {
                StartReport.ready(warnings: [], words: point.stamp.words).send()
            } else {
                try? printReady(places, point.stamp.words)
                fflush(nil)
            }
        }
    }

    /// What the serving process is started with.
    var pastArguments: [String] {
        guard let at else { return [] }
        return ["--at", at] + (barrier ? ["--barrier"] : []) + remote.arguments
    }
}
