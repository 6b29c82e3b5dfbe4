package offsets

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"freshet"
)

// Row is an offset of a group in a partition, as files have it.
type Row struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// WriteRows writes a line for each, topic,partition,offset, or group,topic,partition,offset: what Kafka's own tool
// exports, and takes by --from-file.
func WriteRows(w io.Writer, rows []Row, groups bool) error {
	out := csv.NewWriter(w)
	for _, r := range rows {
		fields := []string{r.Topic, strconv.Itoa(int(r.Partition)), strconv.FormatInt(r.Offset, 10)}
		if groups {
			fields = append([]string{r.Group}, fields...)
		}
		if err := out.Write(fields); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

var errNoRows = errors.New("there is no offset in it")

// ReadRows reads what WriteRows writes, names with or without the prefix, and gives them theirs. group is that of lines
// that name none; with group given, a line of another one is an error. Errors name the line.
func ReadRows(r io.Reader, names freshet.Names, group string) ([]Row, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord, in.TrimLeadingSpace, in.Comment = -1, true, '#'
	var rows []Row
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		line, _ := in.FieldPos(0)
		row, err := readRow(fields, names, group)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if slices.ContainsFunc(rows, func(o Row) bool {
			return o.Group == row.Group && o.Topic == row.Topic && o.Partition == row.Partition
		}) {
			return nil, fmt.Errorf("line %d: partition %d of %s comes twice", line, row.Partition, row.Topic)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, errNoRows
	}
	return rows, nil
}

const rowWanted = "want topic,partition,offset or group,topic,partition,offset"

func readRow(fields []string, names freshet.Names, group string) (Row, error) {
	if len(fields) == 3 {
		if group == "" {
			return Row{}, errors.New("it names no group, and neither does --group")
		}
		fields = append([]string{group}, fields...)
	}
	if len(fields) != 4 {
		return Row{}, fmt.Errorf("%q: %s", strings.Join(fields, ","), rowWanted)
	}
	full := func(name string) string { return names.Prefix + strings.TrimPrefix(name, names.Prefix) }
	if group != "" && full(group) != full(fields[0]) {
		return Row{}, fmt.Errorf("it is of group %s, and %s was asked for", fields[0], group)
	}
	partition, err := strconv.ParseInt(fields[2], 10, 32)
	if err != nil || partition < 0 {
		return Row{}, fmt.Errorf("partition %q: %s", fields[2], rowWanted)
	}
	offset, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil || offset < 0 {
		return Row{}, fmt.Errorf("offset %q: %s", fields[3], rowWanted)
	}
	return Row{Group: full(fields[0]), Topic: full(fields[1]), Partition: int32(partition), Offset: offset}, nil
}
