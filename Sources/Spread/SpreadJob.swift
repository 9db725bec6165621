// What comes before the executor: devices are asked what they hold, an interrupted run is found,
// what is left is planned. Nothing is written here.

import CLinux
import DiskIO

/// Why a job cannot begin.
public enum JobFailure: Error, Sendable {
    case plan(SpreadError)
    /// Visible on these devices.
    case setExists([String])
    /// No device can be used: name and failure of each.
    case noDevice([(device: String, failure: DeviceFailure)])
    /// The plan's sources are not what they were.
    case sourcesChanged(String)
    /// The plan's devices are not those given.
    case otherDevices(planned: [String])
}

/// A job that is ready to run.
public struct SpreadJob: Sendable {
    public var identity: SetIdentity
    public var sources: ScannedSources
    public var devices: [JobDevice]
    public var plan: SpreadPlan?
    public var origins: [EntryOrigin]
    public var resumed: ResumedItems?
    /// Devices where an interrupted run had written the manifest, while others are visible already:
    /// nothing is to be done but to make these visible, too.
    public var isOnlyCommit = false

    /// Asks the devices and plans. `specs` and `devices` are the same devices in the same order;
    /// `given` is a plan made before.
    public static func prepare(
        _ setName: String, _ sources: ScannedSources, _ devices: [BackupDevice],
        _ planned: [SpreadDevice], _ options: SpreadOptions, given: SpreadPlanFile? = nil
    ) throws(JobFailure) -> SpreadJob {
        var jobs: [JobDevice] = []
        var visible: [(index: Int, id: [UInt8]?)] = []
        var left: [(index: Int, set: UnfinishedSet)] = []
        for (index, device) in devices.enumerated() {
            var job = JobDevice(device, planned[index])
            do throws(DeviceFailure) {
                for set in try device.sets() where set.name == setName && set.state != .unfinished {
                    visible.append((index, set.setID))
                }
                if let found = try device.unfinished(setName) { left.append((index, found)) }
                try limit(&job)
            } catch {
                job.failure = error
                job.planned.isAvailable = false
            }
            jobs.append(job)
        }
        if !visible.isEmpty {
            return try finishing(setName, sources, jobs, visible, left)
        }
        guard jobs.contains(where: { $0.failure == nil }) else {
            throw .noDevice(jobs.map { ($0.device.name, $0.failure ?? .offline("")) })
        }
        let newest = left.max { $0.set.identity.created < $1.set.identity.created }?.set.identity
        var resumed: ResumedItems?
        if let newest {
            left = left.filter { $0.set.identity == newest }
            for (index, set) in left { jobs[index].id = set.deviceID }
            let found = ResumedItems(
                left.map { ($0.index, $0.set.items) }, sources, copies: options.copies)
            for item in found.items {
                jobs[item.device].planned.fill += item.size
                jobs[item.device].planned.itemCount += 1
            }
            resumed = found
        }
        let identity =
            newest
            ?? SetIdentity(
                name: setName, id: (0..<16).map { _ in UInt8.random(in: .min ... .max) },
                created: clinux_wall_ns())
        var job = SpreadJob(
            identity: identity, sources: sources, devices: jobs, plan: nil, origins: [],
            resumed: resumed)
        try job.makePlan(options, given)
        return job
    }

    /// What is free bounds what was promised; what an interrupted run holds is on top of it.
    private static func limit(_ job: inout JobDevice) throws(DeviceFailure) {
        guard let free = try job.device.freeBytes() else { return }
        let room = max(free, UInt64(manifestRoom)) - UInt64(manifestRoom)
        job.free = room
        let capacity = job.planned.capacity.map { min($0, room) } ?? room
        job.planned.capacity = capacity
    }

    /// Kept free for the manifest and the file system's own needs.
    private static let manifestRoom = 1 << 20

    private static func finishing(
        _ setName: String, _ sources: ScannedSources, _ jobs: [JobDevice],
        _ visible: [(index: Int, id: [UInt8]?)], _ left: [(index: Int, set: UnfinishedSet)]
    ) throws(JobFailure) -> SpreadJob {
        let open = left.filter { left in
            left.set.hasManifest && visible.contains { $0.id == left.set.identity.id }
        }
        guard !open.isEmpty, let first = open.first else {
            throw .setExists(visible.map { jobs[$0.index].device.name })
        }
        return SpreadJob(
            identity: first.set.identity, sources: sources, devices: open.map { jobs[$0.index] },
            plan: nil, origins: [], resumed: nil, isOnlyCommit: true)
    }

    private mutating func makePlan(
        _ options: SpreadOptions, _ given: SpreadPlanFile?
    ) throws(JobFailure) {
        let known = resumed?.known ?? []
        let (list, origins) = sources.list { source, row in
            !known.contains(EntryOrigin(source: UInt16(source), row: UInt32(row)))
        }
        for i in devices.indices {
            // The planner's capacity includes what the device holds of this job.
            if let capacity = devices[i].planned.capacity {
                devices[i].planned.capacity = capacity + devices[i].planned.fill
            }
        }
        if let given {
            try take(given, known)
            return
        }
        self.origins = origins
        do throws(SpreadError) {
            plan = try SpreadPlanner.plan(list, over: devices.map(\.planned), options)
        } catch {
            throw .plan(error)
        }
    }

    /// Takes a plan made before, if the sources are still what it planned.
    private mutating func take(
        _ given: SpreadPlanFile, _ known: Set<EntryOrigin>
    ) throws(JobFailure) {
        let names = given.plan.devices.map(\.name)
        guard names == devices.map(\.device.name) else { throw .otherDevices(planned: names) }
        let (list, origins) = sources.list()
        var rows: [[UInt8]: Int] = [:]
        rows.reserveCapacity(list.count)
        for entry in 0..<list.count {
            rows[Array(list.names[list.source(entry)].utf8) + [0] + list.path(entry)] = entry
        }
        let planned = given.sources
        guard planned.count == list.count else {
            throw .sourcesChanged("\(planned.count) files are planned, \(list.count) are there")
        }
        var mapped: [EntryOrigin] = []
        for entry in 0..<planned.count {
            let key =
                Array(planned.names[planned.source(entry)].utf8) + [0] + planned.path(entry)
            guard let now = rows[key] else {
                throw .sourcesChanged("\(planned.pathText(entry)) is not there any more")
            }
            guard planned.size(entry) == list.size(now) else {
                throw .sourcesChanged("\(planned.pathText(entry)) has another size")
            }
            mapped.append(origins[now])
        }
        guard !known.isEmpty else {
            (plan, self.origins) = (given.plan, mapped)
            return
        }
        var kept = SpreadItems()
        for item in given.plan.items where !known.contains(mapped[item.entry]) { kept.append(item) }
        plan = given.plan
        plan?.items = kept
        self.origins = mapped
    }
}
