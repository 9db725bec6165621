// A device failed in mid-run (S43 to S45): what is not yet elsewhere is planned again over the
// devices that are left, on top of what they hold and will get by the plan that stands.

extension SpreadPlanner {
    /// Something that still has to be written.
    public struct Remainder: Hashable, Sendable {
        /// Index in the SourceList.
        public var entry: Int
        public var offset: UInt64
        public var size: UInt64
        /// Devices that hold, or will get, another copy of it.
        public var holders: [Int]

        public init(entry: Int, offset: UInt64, size: UInt64, holders: [Int] = []) {
            self.entry = entry
            self.offset = offset
            self.size = size
            self.holders = holders
        }
    }

    /// What a new plan says.
    public struct Replan: Sendable {
        /// With rule `replanned` (`link` for further hard links), in sorted order.
        public var items: SpreadItems
        /// What fits nowhere, each as a whole; in sorted order.
        public var unplaced: [Remainder]
        /// All devices with what they hold after it.
        public var devices: [PlannedDevice]
    }

    /// Plans `remainders` over the devices that are available; their `fill` and `itemCount` say
    /// what they hold or will get. Balanced, whatever the mode of the first plan was: without
    /// capacities and copies no device ends above ceil of the common level and a block, except
    /// where it stood above it before. No device gets a second copy, nor a site where another has
    /// room. A remainder that does not fit is left out as a whole. Folders are kept together where
    /// a device has the room for it.
    public static func replan(
        _ remainders: [Remainder], of sources: SourceList, over devices: [SpreadDevice],
        _ options: SpreadOptions
    ) -> Replan {
        var state = Replanning(remainders, sources, devices, options)
        state.run()
        return Replan(
            items: SpreadItems(state.result), unplaced: state.unplaced.map { remainders[$0] },
            devices: state.table.planned)
    }

    private struct Replanning {
        let remainders: [Remainder]
        let sources: SourceList
        let options: SpreadOptions
        var table: DeviceTable
        var result: [Packed] = []
        /// Positions in `remainders`.
        var unplaced: [Int] = []
        /// Where the first pieces went, by entry.
        private var homes: [UInt32: UInt16] = [:]

        init(
            _ remainders: [Remainder], _ sources: SourceList, _ devices: [SpreadDevice],
            _ options: SpreadOptions
        ) {
            self.remainders = remainders
            self.sources = sources
            self.options = options
            table = DeviceTable(devices, itemCost: options.itemCost)
        }

        mutating func run() {
            var sorted = Array(remainders.indices)
            sorted.sort { a, b in
                let (a, b) = (remainders[a], remainders[b])
                if a.size != b.size { return a.size > b.size }
                return a.entry != b.entry ? a.entry < b.entry : a.offset < b.offset
            }
            let full = sorted.filter { remainders[$0].size > 0 }
            setTargets(full)
            table.order(by: .mostSpace)
            var held: [Int] = []
            for position in keepTogether(full) where !placeWhole(position) {
                held.append(position)
            }
            for position in held { cut(position) }
            table.order(by: .fewestItems)
            for item in result where item.offset == 0 { homes[item.entry] = item.device }
            for position in sorted where remainders[position].size == 0 { placeEmpty(position) }
            let isUnplaced = Set(unplaced)
            unplaced = sorted.filter { isUnplaced.contains($0) }
            let links = result.filter { $0.rule == .link }
            result.removeAll { $0.rule == .link }
            SpreadPlanner.sort(&result, options.order)
            result += links
        }

        private mutating func setTargets(_ positions: [Int]) {
            let cuts = options.itemCost * UInt64(max(0, table.usable.count - 1))
            let load = positions.reduce(cuts) { sum, position in
                let item = remainders[position].size.addingReportingOverflow(options.itemCost)
                let next = sum.addingReportingOverflow(item.partialValue)
                return item.overflow || next.overflow ? .max : next.partialValue
            }
            let vessels = SpreadPlanner.vessels(table, most: load)
            let space = vessels.reduce(UInt64(0)) { sum, vessel in
                let next = sum.addingReportingOverflow(vessel.brim - vessel.floor)
                return next.overflow ? .max : next.partialValue
            }
            guard let poured = Levels.pour(min(load, space), into: vessels) else { return }
            table.setTargets(poured)
        }

        /// Takes out the next device for a remainder: at another site than its copies if possible.
        private mutating func pull(_ position: Int, room: UInt64) -> Int? {
            let holders = remainders[position].holders
            if holders.isEmpty { return table.pull(room: room) }
            let sites = holders.map { table.site[$0] }
            return table.pull(room: room, avoiding: .init(devices: holders, sites: sites))
                ?? table.pull(room: room, avoiding: .init(devices: holders))
        }

        private mutating func append(_ position: Int, _ device: Int) {
            let item = remainders[position]
            result.append(
                Packed(
                    offset: item.offset, size: item.size, entry: UInt32(item.entry),
                    device: UInt16(device), rule: .replanned))
        }

        private mutating func place(
            _ position: Int, offset: UInt64, size: UInt64, on device: Int
        ) {
            result.append(
                Packed(
                    offset: offset, size: size, entry: UInt32(remainders[position].entry),
                    device: UInt16(device), rule: .replanned))
            table.put(size, cost: options.itemCost, on: device)
        }

        private mutating func placeWhole(_ position: Int) -> Bool {
            let size = remainders[position].size
            guard let device = pull(position, room: size) else { return false }
            let more = size + options.itemCost
            guard table.isWithinTarget(device, adding: more, block: options.block) else {
                table.giveBack(device)
                return false
            }
            place(position, offset: remainders[position].offset, size: size, on: device)
            return true
        }

        /// Cuts over the spaces left, and beyond the targets where copies allow nothing else.
        private mutating func cut(_ position: Int) {
            let item = remainders[position]
            let allowed = table.usable.filter { !item.holders.contains($0) }
            var missing = item.size
            for device in allowed { missing -= min(missing, table.free(device)) }
            guard missing == 0 else { return unplaced.append(position) }
            var offset = item.offset
            var rest = item.size
            while rest > 0, let device = pull(position, room: 1) {
                let room = table.free(device)
                let part = SpreadPlanner.cut(
                    rest, at: offset, to: table.space(device), room: room, options.block,
                    options.itemCost)
                let size = part > 0 ? part : min(rest, room)
                place(position, offset: offset, size: size, on: device)
                offset += size
                rest -= size
            }
        }

        /// Further hard links go beside the first piece of their content, all else without bytes
        /// to the device with the fewest items.
        private mutating func placeEmpty(_ position: Int) {
            let item = remainders[position]
            if let leader = sources.leader(of: item.entry), let home = homes[UInt32(leader)] {
                result.append(
                    Packed(
                        offset: 0, size: 0, entry: UInt32(item.entry), device: home, rule: .link))
                return
            }
            guard let device = pull(position, room: 0) else { return unplaced.append(position) }
            place(position, offset: item.offset, size: 0, on: device)
        }

        /// Places whole folders; the positions that are left.
        private mutating func keepTogether(_ positions: [Int]) -> [Int] {
            guard !options.keepTogether.isEmpty,
                let groups = try? FolderGroups(sources, options)
            else { return positions }
            var members = [[Int]](repeating: [], count: groups.count)
            var rest: [Int] = []
            for position in positions {
                if let group = groups.group(of: remainders[position].entry) {
                    members[group].append(position)
                } else {
                    rest.append(position)
                }
            }
            for group in members where !group.isEmpty {
                let size = group.reduce(UInt64(0)) { $0 + remainders[$1].size }
                let holders = Array(Set(group.flatMap { remainders[$0].holders })).sorted()
                guard let device = table.pull(room: size, avoiding: .init(devices: holders)) else {
                    rest += group
                    continue
                }
                for position in group { append(position, device) }
                table.add(
                    size, cost: UInt64(group.count) * options.itemCost, items: group.count,
                    to: device)
                table.giveBack(device)
            }
            return rest
        }
    }
}
