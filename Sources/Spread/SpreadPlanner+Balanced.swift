// Balanced: every device ends at its target, and as few files as possible are cut.
//
// First the files go whole, largest first, each to the device with the least load for its weight.
// When that ends within a block of every device's target, nothing is cut. Otherwise: largest first,
// each file goes whole to the device with the most space left to its target, where it fits; what
// fits nowhere is cut over the spaces that remain. Each cut fills a device, so there is at most one
// cut fewer than devices; the targets add up to the load, so all of it finds its space.
//
// Copies above one are in SpreadPlanner+Copies.swift, folders kept together in
// SpreadPlanner+Together.swift.

extension SpreadPlanner {
    /// Items in sorted order, and whether copies are on different sites where they can be.
    static func balanced(
        _ sources: SourceList, _ table: inout DeviceTable, _ options: SpreadOptions
    ) throws(SpreadError) -> ([Packed], sitesDiffer: Bool) {
        // Capacities are bytes. Where they are so tight that no space is left for the cost of items
        // in them, bytes alone decide.
        do throws(SpreadError) {
            return try balanced(sources, &table, options, itemCost: options.itemCost)
        } catch {
            guard case .doesNotFit = error, options.itemCost > 0 else { throw error }
            return try balanced(sources, &table, options, itemCost: 0)
        }
    }

    private static func balanced(
        _ sources: SourceList, _ table: inout DeviceTable, _ options: SpreadOptions,
        itemCost: UInt64
    ) throws(SpreadError) -> ([Packed], sitesDiffer: Bool) {
        var work = DeviceTable(table.devices, itemCost: itemCost)
        let groups = try FolderGroups(sources, options)
        var (result, sitesDiffer) = try placeGroups(groups, sources, &work, options, itemCost)

        var empty: [Packed] = []
        var files = wholeFiles(sources) { groups.group(of: $0) == nil }
        if itemCost == 0 {
            empty = files.filter { $0.size == 0 }
            if !empty.isEmpty { files.removeAll { $0.size == 0 } }
        }
        if options.copies == 1 {
            if let limit = options.splitOver {
                files = try split(files, above: limit, rule: .leastFilled)
            }
            try placeOnce(&files, &work, options, itemCost)
        } else {
            let differ = try placeCopies(&files, &work, options, itemCost)
            sitesDiffer = sitesDiffer && differ
        }
        if result.isEmpty { result = files } else { result += files }
        files = []
        placeEmpty(empty, &work, &result, options)
        sort(&result, options.order)
        table = work
        return (result, sitesDiffer)
    }

    /// Files without bytes go to the devices with the fewest items.
    private static func placeEmpty(
        _ files: [Packed], _ table: inout DeviceTable, _ result: inout [Packed],
        _ options: SpreadOptions
    ) {
        if files.isEmpty { return }
        table.order(by: .fewestItems)
        for file in files {
            for device in pullDifferent(options.copies, room: 0, &table, preferSites: true) {
                var item = file
                item.device = UInt16(device)
                item.rule = .empty
                result.append(item)
                table.put(0, on: device)
            }
        }
    }

    /// The vessels of all usable devices, in load.
    static func vessels(_ table: DeviceTable, most: UInt64) -> [Levels.Vessel] {
        table.usable.map { device in
            Levels.Vessel(
                floor: table.load[device],
                brim: table.load[device] + min(table.free(device), most),
                weight: table.devices[device].weight)
        }
    }

    // MARK: - one copy

    /// Gives every file its device, and cuts some.
    private static func placeOnce(
        _ files: inout [Packed], _ table: inout DeviceTable, _ options: SpreadOptions,
        _ itemCost: UInt64
    ) throws(SpreadError) {
        sort(&files, .descending)
        let load = files.reduce(UInt64(0)) { $0 + $1.size + itemCost }
        // A cut makes one more item.
        let cuts = itemCost * UInt64(table.usable.count - 1)
        try setTargets(&table, load: load)
        if let placed = placeWhole(&files, table, options, itemCost) {
            table = placed
            return
        }
        try setTargets(&table, load: load + cuts)
        files = fillToTargets(files, &table, options, itemCost)
    }

    private static func setTargets(
        _ table: inout DeviceTable, load: UInt64
    ) throws(SpreadError) {
        guard let poured = Levels.pour(load, into: vessels(table, most: load)) else {
            throw .doesNotFit(needed: load, room: table.room())
        }
        table.setTargets(poured)
    }

    /// The largest first, each to the device with the least share of load; nil when a device would
    /// end more than a block above its target.
    private static func placeWhole(
        _ files: inout [Packed], _ table: DeviceTable, _ options: SpreadOptions,
        _ itemCost: UInt64
    ) -> DeviceTable? {
        var table = table
        table.order(by: .leastShare)
        for position in files.indices {
            guard let device = table.pull(room: files[position].size) else { return nil }
            files[position].device = UInt16(device)
            table.put(files[position].size, cost: itemCost, on: device)
            // Targets are rounded up, so that this stays below the exact one and a block.
            if !table.isWithinTarget(device, block: options.block) { return nil }
        }
        return table
    }

    /// The largest first, each to the device with the most space; what fits nowhere is cut.
    private static func fillToTargets(
        _ files: [Packed], _ table: inout DeviceTable, _ options: SpreadOptions,
        _ itemCost: UInt64
    ) -> [Packed] {
        var result: [Packed] = []
        result.reserveCapacity(files.count + table.usable.count)
        var held: [Packed] = []
        table.order(by: .mostSpace)
        for var file in files {
            guard let device = table.pull(room: file.size) else {
                held.append(file)
                continue
            }
            if table.isWithinTarget(device, adding: file.size + itemCost, block: options.block) {
                file.device = UInt16(device)
                table.put(file.size, cost: itemCost, on: device)
                result.append(file)
            } else {
                table.giveBack(device)
                held.append(file)
            }
        }
        for file in held {
            result += cutToTargets(file, &table, options, itemCost)
        }
        return result
    }

    /// Cuts a file over the devices with the most space. What a piece fills is not asked again.
    private static func cutToTargets(
        _ file: Packed, _ table: inout DeviceTable, _ options: SpreadOptions, _ itemCost: UInt64
    ) -> [Packed] {
        var pieces: [Packed] = []
        var piece = file
        var rest = file.size
        while rest > 0 || pieces.isEmpty {
            guard let device = table.pull(room: min(rest, 1)) else {
                preconditionFailure("the targets add up to the load")
            }
            piece.size = cut(
                rest, at: piece.offset, to: table.space(device), room: table.free(device),
                options.block, itemCost)
            if piece.size == 0 && rest > 0 { continue }  // no space left: it is done
            piece.device = UInt16(device)
            table.put(piece.size, cost: itemCost, on: device)
            pieces.append(piece)
            piece.offset += piece.size
            rest -= piece.size
        }
        if pieces.count > 1 {
            for index in pieces.indices { pieces[index].rule = .target }
        }
        return pieces
    }

    /// How much of `rest` goes to a device with so much space: up to the block's end where it has
    /// room for that.
    static func cut(
        _ rest: UInt64, at offset: UInt64, to space: UInt64, room: UInt64, _ block: UInt64,
        _ itemCost: UInt64
    ) -> UInt64 {
        guard space > itemCost else { return 0 }
        let most = space - itemCost
        if most >= rest { return min(rest, room) }
        let over = (offset + most) % block
        let rounded = over == 0 ? most : most + (block - over)
        return min(rest, rounded <= room ? rounded : min(most, room))
    }
}
