// A plan for people: a table, and the picture.

import CommandText
import Foundation
import Spread

enum SpreadText {
    static func table(_ plan: SpreadPlan, _ job: PlanningJob) -> String {
        var table = TextTable(
            [.left, .right, .right, .right, .right],
            header: ["device", "items", "load", "capacity", "time"])
        for (index, device) in plan.devices.enumerated() {
            if !device.isAvailable {
                table.add([device.name, "-", "not available", "-", "-"])
                continue
            }
            table.add([
                device.name, "\(device.items)", "\(ByteSize(bytes: device.bytes))",
                device.capacity.map { "\(ByteSize(bytes: $0))" } ?? "-",
                seconds(device, job.devices[index]).map(duration) ?? "-",
            ])
        }
        return table.text + summary(plan, job)
    }

    /// How long the device writes at the rate that it was given.
    static func seconds(_ planned: PlannedDevice, _ device: SpreadDevice) -> Double? {
        device.rate.map { Double(planned.bytes) / Double($0) }
    }

    private static func duration(_ seconds: Double) -> String {
        if seconds > 0 && seconds < 1 { return "< 1s" }
        return "\(DurationText(seconds: Int64(min(seconds.rounded(.up), 1e12))))"
    }

    private static func summary(_ plan: SpreadPlan, _ job: PlanningJob) -> String {
        let count = job.list.count
        let available = plan.devices.count { $0.isAvailable }
        let total = plan.devices.reduce(UInt64(0)) { $0 &+ $1.bytes }
        var text = "\(plan.mode.rawValue): \(count) \(count == 1 ? "file" : "files")"
        if plan.copies > 1 { text += ", \(plan.copies) copies" }
        text += ", \(ByteSize(bytes: total)) on \(available) "
        text += available == 1 ? "device" : "devices"
        text += "; threshold \(plan.threshold) bytes (\(ByteSize(bytes: plan.threshold)))\n"
        let pieces = plan.items.count - count * plan.copies
        if pieces > 0 { text += "cuts: \(pieces)\n" }
        let times = zip(plan.devices, job.devices).filter { $0.0.isAvailable }
            .map { seconds($0, $1) }
        if !times.isEmpty, !times.contains(nil) {
            text += "all end within \(duration(times.compactMap { $0 }.max() ?? 0))\n"
        }
        return text
    }

    /// The picture of a plan of `name`.
    static func picture(_ plan: SpreadPlan, _ job: PlanningJob, _ name: String) -> String {
        let order = plan.mode == .balanced ? "" : ", \(plan.order.rawValue)"
        let copies = plan.copies > 1 ? ", \(plan.copies) copies" : ""
        var picture = SpreadPicture(
            title: "\(plan.mode.rawValue)\(order)",
            subtitle: "\(name): \(job.list.count) files, \(plan.items.count) items\(copies); "
                + "the fullest device takes \(ByteSize(bytes: plan.makespan))",
            threshold: plan.threshold, longest: plan.makespan)
        for (index, device) in plan.devices.enumerated() {
            var note = "\(device.items) \(device.items == 1 ? "item" : "items"), "
            note += "\(ByteSize(bytes: device.bytes))"
            if let time = seconds(device, job.devices[index]) { note += ", \(duration(time))" }
            picture.addDevice(
                device.name, note: note, bytes: device.bytes, capacity: device.capacity,
                isAvailable: device.isAvailable)
        }
        for item in plan.items where item.size > 0 {
            picture.addPiece(
                to: item.device, bytes: item.size, file: item.entry,
                label: label(job.list, item.entry), hint: hint(job.list, item))
        }
        return picture.svg
    }

    private static func label(_ list: SourceList, _ entry: Int) -> String {
        let path = list.pathText(entry)
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        return name.isEmpty ? list.names[list.source(entry)] : name
    }

    private static func hint(_ list: SourceList, _ item: SpreadItem) -> String {
        var text = list.pathText(item.entry)
        if text.isEmpty { text = list.names[list.source(item.entry)] }
        text += ": \(ByteSize(bytes: item.size))"
        if item.size < list.size(item.entry) {
            text += " at \(ByteSize(bytes: item.offset)) of "
            text += "\(ByteSize(bytes: list.size(item.entry)))"
        }
        return text + " (\(item.rule.word))"
    }
}
