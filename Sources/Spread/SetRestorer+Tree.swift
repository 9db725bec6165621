// What a restored tree is besides content: links, nodes, owners, modes, attributes, times.

import DiskIO

#if canImport(Glibc)
    import Glibc
#endif

extension SetRestorer {
    /// Links, nodes and metadata; folders last, from the inside out.
    func finishTree() throws {
        for (index, source) in manifest.sources.enumerated() where wanted[index][0] {
            var made: [UInt32: Int] = [:]
            for row in source.table.rows.indices
            where wanted[index][row] && !source.table.rows[row].isFolder {
                let leader = source.table.extra(row).linkedTo ?? UInt32(row)
                if let first = made[leader] {
                    link(row, to: first, source)
                } else if makeOther(row, source, index) {
                    made[leader] = row
                    decorate(row, as: Int(leader), source)
                }
            }
            for row in source.table.rows.indices.reversed()
            where wanted[index][row] && source.table.rows[row].isFolder {
                decorate(row, as: row, source)
            }
        }
    }

    private func parent(of row: Int, _ source: ManifestSource) throws(IOError) -> (Folder, [UInt8])
    {
        if row == 0 { return (output, source.name) }
        let folder = Int(source.table.rows[row].parent)
        let path = source.table.path(folder)
        let place = source.name + (path.isEmpty ? [] : [0x2F] + path)
        if parentFolder?.place != place {
            parentFolder = (place, try output.folder(place))
        }
        return (parentFolder?.folder ?? output, Array(source.table.name(row)))
    }

    /// Makes what is no file and no folder; true where there is something now.
    private func makeOther(_ row: Int, _ source: ManifestSource, _ index: Int) -> Bool {
        let entry = source.table.rows[row]
        let extra = source.table.extra(row)
        let origin = EntryOrigin(
            source: UInt16(index), row: extra.linkedTo ?? UInt32(row))
        if entry.isFile { return restored.contains(origin) }
        do throws(IOError) {
            let (folder, name) = try parent(of: row, source)
            if entry.isSymbolicLink {
                try folder.createSymbolicLink(name, to: extra.target ?? [])
            } else {
                try folder.createNode(name, mode: entry.mode, node: extra.node ?? 0)
            }
            return true
        } catch {
            report.missing.append(
                .init(path: manifest.text(index, row), reason: error.reason))
            return false
        }
    }

    private func link(_ row: Int, to first: Int, _ source: ManifestSource) {
        do throws(IOError) {
            let (folder, name) = try parent(of: first, source)
            let (other, target) = try parent(of: row, source)
            try other.createLink(target, to: name, in: folder)
        } catch {
            report.missing.append(
                .init(
                    path: PathText.text(source.name + [0x2F] + source.table.path(row)),
                    reason: error.reason))
        }
    }

    /// Owner, mode, attributes, time of `row`, as those of `model`.
    private func decorate(_ row: Int, as model: Int, _ source: ManifestSource) {
        let entry = source.table.rows[model]
        do throws(IOError) {
            let (folder, name) = try parent(of: row, source)
            // Without privilege the files are the caller's own: nothing to complain about.
            if geteuid() == 0 { try folder.setOwner(name, entry.owner, entry.group) }
            if !entry.isSymbolicLink { try folder.setPermissions(name, entry.mode) }
            for attribute in source.table.extra(model).attributes {
                do throws(IOError) {
                    try folder.setAttribute(name, attribute.name, attribute.value)
                } catch {
                    note(row, source, error)
                }
            }
            try folder.setTime(name, seconds: entry.seconds, nanoseconds: entry.nanoseconds)
        } catch {
            note(row, source, error)
        }
    }

    private func note(_ row: Int, _ source: ManifestSource, _ error: IOError) {
        report.unsetCount += 1
        guard report.unset.count < 10 else { return }
        let path = source.table.path(row)
        let text = PathText.text(source.name + (path.isEmpty ? [] : [0x2F] + path))
        report.unset.append("\(text): \(error.reason)")
    }
}
