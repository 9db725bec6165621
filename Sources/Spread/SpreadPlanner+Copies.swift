// Several copies, each on another device, and on another site where there are enough.
//
// First whole files, as with one copy, each to so many different devices. When that does not end
// near the targets, the line: all files laid end to end, as often as there are copies, on one line
// that is cut at the targets (the wrap-around rule of McNaughton, 1959). A device's part is never
// longer than one copy of everything, so it never holds a byte twice. The devices of a site lie
// side by side, and their parts together are never longer than that either, so no two copies share
// a site. Cuts are rounded by the place in the file alone, the same in each copy, so rounding
// keeps both.

extension SpreadPlanner {
    /// Replaces `files` by the items of all copies; whether sites differ where they can.
    static func placeCopies(
        _ files: inout [Packed], _ table: inout DeviceTable, _ options: SpreadOptions,
        _ itemCost: UInt64
    ) throws(SpreadError) -> Bool {
        if let limit = options.splitOver {
            files = try split(files, above: limit, rule: .leastFilled)
        }
        sort(&files, .descending)
        let load = files.reduce(UInt64(0)) { $0 + $1.size + itemCost }
        if load == 0 { return true }
        let sitesDiffer = try setCopyTargets(&table, load: load, copies: options.copies)
        let bySite = sitesDiffer && table.siteCount >= options.copies
        if let placed = placeWholeCopies(files, &table, options, itemCost, bySite: bySite) {
            files = placed
        } else {
            files.sort { ($0.entry, $0.offset) < ($1.entry, $1.offset) }
            files = line(files, &table, options, itemCost, load: load)
        }
        return sitesDiffer
    }

    // MARK: - targets

    /// Targets for all copies of `load`: no device more than one, and no site where there are
    /// enough of them. False when there are enough sites, but not enough room on them.
    private static func setCopyTargets(
        _ table: inout DeviceTable, load: UInt64, copies: Int
    ) throws(SpreadError) -> Bool {
        let vessels = vessels(table, most: load)
        var sitesDiffer = true
        var poured: Levels.Poured?
        if table.siteCount >= copies {
            let sites = table.usable.map { table.site[$0] }
            poured = pourBySite(vessels, sites, load: load, copies: copies)
            sitesDiffer = poured != nil
        }
        poured = poured ?? Levels.pour(load * UInt64(copies), into: vessels)
        guard let poured else {
            throw .doesNotFit(needed: load * UInt64(copies), room: table.room(most: load))
        }
        table.setTargets(poured)
        return sitesDiffer
    }

    /// As Levels.pour, but no site takes more than `load`. A site that would is given exactly that
    /// and left out; the others rise, so that none which was left out would take less again.
    private static func pourBySite(
        _ vessels: [Levels.Vessel], _ sites: [Int], load: UInt64, copies: Int
    ) -> Levels.Poured? {
        var result = Levels.Poured(loads: vessels.map(\.floor), limits: vessels.map(\.floor))
        var isFixed = [Bool](repeating: false, count: (sites.max() ?? 0) + 1)
        while true {
            let open = vessels.indices.filter { !isFixed[sites[$0]] }
            let rest = load * UInt64(copies - isFixed.count { $0 })
            guard let poured = Levels.pour(rest, into: open.map { vessels[$0] }) else { return nil }
            var taken = [UInt64](repeating: 0, count: isFixed.count)
            for (place, index) in open.enumerated() {
                result.loads[index] = poured.loads[place]
                result.limits[index] = poured.limits[place]
                taken[sites[index]] += poured.loads[place] - vessels[index].floor
            }
            let over = taken.indices.filter { taken[$0] > load }
            if over.isEmpty { return result }
            for site in over {
                isFixed[site] = true
                let members = vessels.indices.filter { sites[$0] == site }
                guard let poured = Levels.pour(load, into: members.map { vessels[$0] }) else {
                    return nil
                }
                for (place, index) in members.enumerated() {
                    result.loads[index] = poured.loads[place]
                    result.limits[index] = poured.limits[place]
                }
            }
        }
    }

    // MARK: - whole files

    /// The items, when every device ends within a block of its target.
    private static func placeWholeCopies(
        _ files: [Packed], _ table: inout DeviceTable, _ options: SpreadOptions,
        _ itemCost: UInt64, bySite: Bool
    ) -> [Packed]? {
        var work = table
        var result: [Packed] = []
        result.reserveCapacity(files.count * options.copies)
        work.order(by: .leastShare)
        for file in files {
            let homes = pullDifferent(
                options.copies, room: file.size, &work, preferSites: bySite)
            if homes.isEmpty { return nil }
            if bySite, Set(homes.map { work.site[$0] }).count < homes.count { return nil }
            for device in homes {
                var item = file
                item.device = UInt16(device)
                result.append(item)
                work.put(file.size, cost: itemCost, on: device)
                if !work.isWithinTarget(device, block: options.block) { return nil }
            }
        }
        table = work
        return result
    }

    // MARK: - the line

    /// Lays `files` on the line once a copy and cuts it at the targets. `load` is the length of one
    /// copy.
    private static func line(
        _ files: [Packed], _ table: inout DeviceTable, _ options: SpreadOptions,
        _ itemCost: UInt64, load: UInt64
    ) -> [Packed] {
        let order = table.usable.sorted { a, b in
            table.site[a] != table.site[b] ? table.site[a] < table.site[b] : a < b
        }
        var ends: [UInt64] = []
        var isTight = false
        for device in order {
            let space = table.space(device)
            ends.append((ends.last ?? 0) + space)
            let (rounded, overflow) = space.addingReportingOverflow(options.block - 1)
            if space > 0 && (overflow || rounded > table.free(device)) { isTight = true }
        }
        let block = isTight ? 1 : options.block
        var result: [Packed] = []
        result.reserveCapacity(files.count * options.copies + order.count)
        var start: UInt64 = 0
        var turn = 0
        for _ in 0..<options.copies {
            for file in files {
                let end = start + itemCost + file.size
                var piece = file
                var done: UInt64 = 0
                while true {
                    let isLast = ends[turn] >= end || turn == ends.count - 1
                    let mark =
                        isLast
                        ? file.size
                        : roundUp(
                            ends[turn] > start + itemCost ? ends[turn] - start - itemCost : 0,
                            from: file.offset, to: block, most: file.size)
                    if mark > done || isLast && file.size == 0 {
                        piece.offset = file.offset + done
                        piece.size = mark - done
                        piece.device = UInt16(order[turn])
                        piece.rule = .line
                        result.append(piece)
                        table.add(piece.size, cost: itemCost, to: order[turn])
                        done = mark
                    }
                    if isLast { break }
                    turn += 1
                }
                start = end
            }
        }
        return result
    }

    /// The place in the file up to which a piece goes; a multiple of the block in the whole file.
    private static func roundUp(
        _ place: UInt64, from offset: UInt64, to block: UInt64, most: UInt64
    ) -> UInt64 {
        let over = (offset + place) % block
        if place == 0 || over == 0 { return min(place, most) }
        let (rounded, overflow) = place.addingReportingOverflow(block - over)
        return overflow ? most : min(rounded, most)
    }
}
