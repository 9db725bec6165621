// logdisk spread threshold, and what it shares with plan.

import ArgumentParser
import CommandText
import Spread

struct SpreadThreshold: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "threshold",
        abstract: "Print the size above which files are split, and nothing else.",
        discussion: """
            The sum of all sizes, divided by the devices that are available, rounded up; in bytes. \
            Nothing is written.

              logdisk spread threshold /srv/photos --device dir:/mnt/a --device dir:/mnt/b
            """)

    @OptionGroup var sources: PlanningSources
    @OptionGroup var devices: DeviceArguments
    @OptionGroup var output: OutputOptions

    func run() throws {
        let job = try PlanningJob(sources, devices)
        let threshold: UInt64
        do throws(SpreadError) {
            threshold = try SpreadPlanner.threshold(job.list, over: job.devices)
        } catch {
            throw CommandFailure(error, object: "threshold")
        }
        if output.json {
            try Terminal.json(["threshold": threshold])
        } else {
            Terminal.out("\(threshold)")
        }
        try job.end()
    }
}

/// Sources and devices of a command line, read and checked.
struct PlanningJob {
    let list: SourceList
    let specs: [DeviceSpec]
    let devices: [SpreadDevice]
    private let unreadable: [(path: String, reason: String)]

    init(_ sources: PlanningSources, _ devices: DeviceArguments) throws(CommandFailure) {
        specs = try devices.specs()
        self.devices = try PlannedDevices.devices(specs)
        let found = try sources.read(on: specs)
        list = found.list
        unreadable = found.unreadable
        for device in self.devices where !device.isAvailable {
            Terminal.warn("\(device.name) is not available: there is no such folder")
        }
    }

    /// Says what could not be read; then the whole is incomplete.
    func end() throws(CommandFailure) {
        guard !unreadable.isEmpty else { return }
        for (path, reason) in unreadable { Terminal.warn("\(path) cannot be read (\(reason))") }
        throw CommandFailure(
            .incomplete, "", "\(unreadable.count) files or folders cannot be read and are left out",
            hint: "run it as somebody who may read them")
    }
}
