// What docs/openapi.yaml says of sets of backups. See OpenAPI.swift.

extension OpenAPI {
    static let backups = #"""
          /v1/backups/{device}:
            parameters:
              - { $ref: "#/components/parameters/Device" }
            get:
              summary: The sets of a backup device, and its room; one without sets need not be made
              responses:
                "200":
                  description: Sorted by name.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/Backup" }
                default: { $ref: "#/components/responses/Error" }
          /v1/backups/{device}/{set}:
            parameters:
              - { $ref: "#/components/parameters/Device" }
              - { $ref: "#/components/parameters/Set" }
            put:
              summary: Begins a set, or goes on with it; busy while another writer is about
              parameters:
                - { $ref: "#/components/parameters/Run" }
              requestBody:
                required: true
                content:
                  application/json:
                    schema: { $ref: "#/components/schemas/SetRequest" }
              responses:
                "200": { $ref: "#/components/responses/Set" }
                default: { $ref: "#/components/responses/Error" }
            post:
              summary: Makes a set visible that has its manifest; nothing in it changes from then on
              parameters:
                - { $ref: "#/components/parameters/Run" }
              responses:
                "200": { $ref: "#/components/responses/Set" }
                default: { $ref: "#/components/responses/Error" }
            delete:
              summary: Removes a set; one that is visible needs full access
              parameters:
                - { $ref: "#/components/parameters/Run" }
              responses:
                "204": { description: It is gone. }
                default: { $ref: "#/components/responses/Error" }
          /v1/backups/{device}/{set}/writer:
            parameters:
              - { $ref: "#/components/parameters/Device" }
              - { $ref: "#/components/parameters/Set" }
            delete:
              summary: Another writer may go on with the set now
              parameters:
                - { $ref: "#/components/parameters/Run" }
              responses:
                "204": { description: It may. }
                default: { $ref: "#/components/responses/Error" }
          /v1/backups/{device}/{set}/files:
            parameters:
              - { $ref: "#/components/parameters/Device" }
              - { $ref: "#/components/parameters/Set" }
            get:
              summary: The files of a set that are whole
              responses:
                "200":
                  description: Sorted by name.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/SetFileListing" }
                default: { $ref: "#/components/responses/Error" }
          /v1/backups/{device}/{set}/files/{file}:
            parameters:
              - { $ref: "#/components/parameters/Device" }
              - { $ref: "#/components/parameters/Set" }
              - name: file
                in: path
                required: true
                schema:
                  type: string
                  pattern: '^(MANIFEST|(journal-)?[0-9]{8})$'
                  description: Numbers above 99999999 have more digits.
            get:
              summary: The bytes of a file, or one range of them
              parameters:
                - name: Range
                  in: header
                  description: One range, for example bytes=0-127 or bytes=-256.
                  schema: { type: string }
              responses:
                "200":
                  description: All bytes.
                  content:
                    application/octet-stream:
                      schema: { type: string, format: binary }
                "206":
                  description: The range.
                  content:
                    application/octet-stream:
                      schema: { type: string, format: binary }
                default: { $ref: "#/components/responses/Error" }
            patch:
              summary: Appends bytes of the content
              parameters:
                - { $ref: "#/components/parameters/Run" }
                - { $ref: "#/components/parameters/Offset" }
                - { $ref: "#/components/parameters/HeadBytes" }
                - name: Logdisk-Zeros
                  in: header
                  description: Instead of a body, so many zeros.
                  schema: { type: integer, minimum: 0, maximum: 1073741824 }
              requestBody:
                content:
                  application/octet-stream:
                    schema: { type: string, format: binary }
              responses:
                "200": { $ref: "#/components/responses/Upload" }
                default: { $ref: "#/components/responses/Error" }
            post:
              summary: Ends a file; the body is its head, then what is missing of the content
              parameters:
                - { $ref: "#/components/parameters/Run" }
                - { $ref: "#/components/parameters/Offset" }
                - { $ref: "#/components/parameters/HeadBytes" }
                - name: Logdisk-SHA256
                  in: header
                  required: true
                  description: Of the content, all of it.
                  schema: { $ref: "#/components/schemas/Digest" }
              requestBody:
                content:
                  application/octet-stream:
                    schema: { type: string, format: binary }
              responses:
                "200":
                  description: The file is whole and durable.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/SetFileReply" }
                default: { $ref: "#/components/responses/Error" }
            delete:
              summary: Removes a file, whole or not, of a set that is not visible
              parameters:
                - { $ref: "#/components/parameters/Run" }
              responses:
                "204": { description: It is gone. }
                default: { $ref: "#/components/responses/Error" }

        """#
}
