package events

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// contract is what events.proto said when it was last allowed to grow: what other programs were generated from, and
// what records that are kept for years were written by. -update writes it again, if nothing in it is broken.
const contract = "testdata/contract.binpb"

// broken says what a program generated from old could no longer read as it was meant, or would read as something else,
// in records written by now. Names of fields are no part of a record, but are what programs are written by.
func broken(old, now *descriptorpb.FileDescriptorProto) (breaks []string) {
	brk := func(format string, args ...any) { breaks = append(breaks, fmt.Sprintf(format, args...)) }
	if old.GetPackage() != now.GetPackage() {
		brk("package %s is %s now", old.GetPackage(), now.GetPackage())
	}
	for _, was := range old.GetMessageType() {
		i := slices.IndexFunc(now.GetMessageType(), func(m *descriptorpb.DescriptorProto) bool {
			return m.GetName() == was.GetName()
		})
		if i < 0 {
			brk("message %s is gone", was.GetName())
			continue
		}
		brokenMessage(was, now.GetMessageType()[i], brk)
	}
	return breaks
}

func brokenMessage(old, now *descriptorpb.DescriptorProto, brk func(string, ...any)) {
	for _, was := range old.GetField() {
		what := fmt.Sprintf("%s.%s = %d", old.GetName(), was.GetName(), was.GetNumber())
		i := slices.IndexFunc(now.GetField(), func(f *descriptorpb.FieldDescriptorProto) bool {
			return f.GetNumber() == was.GetNumber()
		})
		if i < 0 {
			if !reserved(now, was.GetNumber()) {
				brk("%s is gone, and its number not reserved", what)
			}
			continue
		}
		is := now.GetField()[i]
		if is.GetName() != was.GetName() {
			brk("%s is called %s now", what, is.GetName())
		}
		if is.GetType() != was.GetType() || is.GetTypeName() != was.GetTypeName() || is.GetLabel() != was.GetLabel() {
			brk("%s was %s %s %s and is %s %s %s", what, was.GetLabel(), was.GetType(), was.GetTypeName(), is.GetLabel(),
				is.GetType(), is.GetTypeName())
		}
		if choice(old, was) != choice(now, is) {
			brk("%s was in %q and is in %q", what, choice(old, was), choice(now, is))
		}
	}
	for _, is := range now.GetField() {
		if reserved(old, is.GetNumber()) {
			brk("%s.%s has the number %d, which was reserved", now.GetName(), is.GetName(), is.GetNumber())
		}
	}
	for _, was := range old.GetEnumType() {
		values := map[string]int32{}
		for _, enum := range now.GetEnumType() {
			if enum.GetName() == was.GetName() {
				for _, v := range enum.GetValue() {
					values[v.GetName()] = v.GetNumber()
				}
			}
		}
		for _, v := range was.GetValue() {
			if number, there := values[v.GetName()]; !there || number != v.GetNumber() {
				brk("%s.%s: %s = %d is gone or has another number", old.GetName(), was.GetName(), v.GetName(), v.GetNumber())
			}
		}
	}
}

// choice is the oneof that a field is in; a field that is only optional is in one of its own.
func choice(m *descriptorpb.DescriptorProto, f *descriptorpb.FieldDescriptorProto) string {
	if f.OneofIndex == nil {
		return ""
	}
	return m.GetOneofDecl()[f.GetOneofIndex()].GetName()
}

func reserved(m *descriptorpb.DescriptorProto, number int32) bool {
	return slices.ContainsFunc(m.GetReservedRange(), func(r *descriptorpb.DescriptorProto_ReservedRange) bool {
		return r.GetStart() <= number && number < r.GetEnd()
	})
}

func current() *descriptorpb.FileDescriptorProto {
	file := protodesc.ToFileDescriptorProto(File_internal_events_events_proto)
	file.SourceCodeInfo = nil
	return file
}

// Nothing that was ever written or generated is broken, and what was added since is in the contract, too.
func TestContract(t *testing.T) {
	now := current()
	data, err := os.ReadFile(contract)
	if err != nil && !*update {
		t.Fatal(err)
	}
	var old descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(data, &old); err != nil {
		t.Fatal(err)
	}
	for _, what := range broken(&old, now) {
		if len(data) > 0 {
			t.Error(what)
		}
	}
	if t.Failed() || proto.Equal(&old, now) {
		return
	}
	if !*update {
		t.Fatalf("events.proto says more than %s: go test ./internal/events -update", contract)
	}
	if data, err = (proto.MarshalOptions{Deterministic: true}).Marshal(now); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(contract, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each way to break the contract is seen, and what only adds to it breaks nothing.
func TestBroken(t *testing.T) {
	message := func(f *descriptorpb.FileDescriptorProto, name protoreflect.Name) *descriptorpb.DescriptorProto {
		for _, m := range f.GetMessageType() {
			if m.GetName() == string(name) {
				return m
			}
		}
		t.Fatalf("no message %s", name)
		return nil
	}
	for _, tt := range []struct {
		name   string
		change func(f *descriptorpb.FileDescriptorProto)
		breaks int
	}{
		{"nothing", func(*descriptorpb.FileDescriptorProto) {}, 0},
		{"a field more", func(f *descriptorpb.FileDescriptorProto) {
			m := message(f, "PostEvent")
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
				Name: proto.String("language"), Number: proto.Int32(100),
				Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			})
		}, 0},
		{"a message more", func(f *descriptorpb.FileDescriptorProto) {
			f.MessageType = append(f.MessageType, &descriptorpb.DescriptorProto{Name: proto.String("New")})
		}, 0},
		{"an enum's value more", func(f *descriptorpb.FileDescriptorProto) {
			e := message(f, "PostEvent").GetEnumType()[0]
			e.Value = append(e.Value, &descriptorpb.EnumValueDescriptorProto{
				Name: proto.String("PINNED"), Number: proto.Int32(9),
			})
		}, 0},
		{"a reserved field", func(f *descriptorpb.FileDescriptorProto) {
			m := message(f, "Stats")
			m.ReservedRange = append(m.ReservedRange, &descriptorpb.DescriptorProto_ReservedRange{
				Start: m.Field[0].Number, End: proto.Int32(m.Field[0].GetNumber() + 1),
			})
			m.Field = m.Field[1:]
		}, 0},
		{"another package", func(f *descriptorpb.FileDescriptorProto) { f.Package = proto.String("freshet.v2") }, 1},
		{"a message less", func(f *descriptorpb.FileDescriptorProto) {
			f.MessageType = slices.DeleteFunc(f.MessageType, func(m *descriptorpb.DescriptorProto) bool {
				return m.GetName() == "Tier"
			})
		}, 1},
		{"a field less", func(f *descriptorpb.FileDescriptorProto) {
			m := message(f, "Stats")
			m.Field = m.Field[1:]
		}, 1},
		{"another type", func(f *descriptorpb.FileDescriptorProto) {
			message(f, "Stats").Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
		}, 1},
		{"one becomes many", func(f *descriptorpb.FileDescriptorProto) {
			message(f, "Stats").Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}, 1},
		{"another name", func(f *descriptorpb.FileDescriptorProto) {
			message(f, "Stats").Field[0].Name = proto.String("audience")
		}, 1},
		{"out of its oneof", func(f *descriptorpb.FileDescriptorProto) {
			message(f, "FanoutLoop").Field[0].OneofIndex = nil
		}, 1},
		{"an enum's value has another number", func(f *descriptorpb.FileDescriptorProto) {
			message(f, "PostEvent").GetEnumType()[0].Value[1].Number = proto.Int32(77)
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed, _ := proto.Clone(current()).(*descriptorpb.FileDescriptorProto)
			tt.change(changed)
			if breaks := broken(current(), changed); len(breaks) != tt.breaks {
				t.Errorf("breaks %q, want %d", breaks, tt.breaks)
			}
		})
	}
	old, now := current(), current()
	message(old, "Stats").ReservedRange = []*descriptorpb.DescriptorProto_ReservedRange{{
		Start: message(old, "Stats").Field[0].Number, End: proto.Int32(message(old, "Stats").Field[0].GetNumber() + 1),
	}}
	if breaks := broken(old, now); len(breaks) != 1 {
		t.Errorf("a reserved number is used again: %q", breaks)
	}
}
