package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

var (
	//go:embed docs.html
	docsTemplate string
	//go:embed docs.css
	docsStyle string
)

// docs is openapi.yaml as a page: whole, in one file, for a browser that may have no network.
type docs struct {
	Style       template.CSS
	Title       string
	Description string
	Operations  []operation
	Schemas     []schema
}

// operation is a method of a path.
type operation struct {
	Method, Path         string
	ID                   string `yaml:"operationId"`
	Summary, Description string
	Parameters           []parameter
	RequestBody          struct {
		Required bool
		Content  map[string]content
	} `yaml:"requestBody"`
	Responses yaml.Node
	Answers   []answer `yaml:"-"`
}

type parameter struct {
	Ref               string `yaml:"$ref"`
	Name, In          string
	Required          bool
	Description       string
	Schema            yaml.Node
	Text, SchemaNamed string `yaml:"-"`
}

type content struct {
	Schema yaml.Node
}

// Named is the name of the schema, if it has one; Text is what it says otherwise.
func (c content) Named() string { return refName(&c.Schema) }

// Text is the schema as it stands in the file.
func (c content) Text() string { return textOf(&c.Schema) }

type answer struct {
	Status      string
	Ref         string `yaml:"$ref"`
	Description string
	Headers     map[string]any
	Content     map[string]content
}

type schema struct{ Name, Text string }

var docsPage = sync.OnceValues(func() ([]byte, error) { return renderDocs(openAPI) })

// renderDocs makes the page of a description.
func renderDocs(description []byte) ([]byte, error) {
	var file struct {
		Info       struct{ Title, Description string }
		Paths      yaml.Node
		Components struct {
			Parameters map[string]parameter
			Responses  map[string]answer
			Schemas    yaml.Node
		}
	}
	if err := yaml.Unmarshal(description, &file); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	page := docs{
		Style: template.CSS(docsStyle), //nolint:gosec // a file of this package
		Title: file.Info.Title, Description: file.Info.Description,
	}
	for path, item := range pairs(&file.Paths) {
		var shared struct{ Parameters []parameter }
		if err := item.Decode(&shared); err != nil {
			return nil, fmt.Errorf("read %s of openapi.yaml: %w", path, err)
		}
		for method, node := range pairs(item) {
			if method == "parameters" {
				continue
			}
			op := operation{Method: strings.ToUpper(method), Path: path}
			if err := node.Decode(&op); err != nil {
				return nil, fmt.Errorf("read %s %s of openapi.yaml: %w", method, path, err)
			}
			op.Parameters = append(shared.Parameters[:len(shared.Parameters):len(shared.Parameters)], op.Parameters...)
			for i, p := range op.Parameters {
				if p.Ref != "" {
					p = file.Components.Parameters[last(p.Ref)]
				}
				p.SchemaNamed, p.Text = refName(&p.Schema), textOf(&p.Schema)
				op.Parameters[i] = p
			}
			for status, node := range pairs(&op.Responses) {
				var a answer
				if err := node.Decode(&a); err != nil {
					return nil, fmt.Errorf("read the answer %s to %s %s of openapi.yaml: %w", status, method, path, err)
				}
				if a.Ref != "" {
					a = file.Components.Responses[last(a.Ref)]
				}
				a.Status = status
				op.Answers = append(op.Answers, a)
			}
			page.Operations = append(page.Operations, op)
		}
	}
	for name, node := range pairs(&file.Components.Schemas) {
		page.Schemas = append(page.Schemas, schema{name, textOf(node)})
	}
	made, err := template.New("docs").Funcs(template.FuncMap{
		"prose": prose, "statusText": statusText, "lower": strings.ToLower,
	}).Parse(docsTemplate)
	if err != nil {
		return nil, fmt.Errorf("read the template of the page: %w", err)
	}
	var b bytes.Buffer
	if err := made.Execute(&b, page); err != nil {
		return nil, fmt.Errorf("make the page of openapi.yaml: %w", err)
	}
	return b.Bytes(), nil
}

// pairs goes through a mapping in the order of the file.
func pairs(n *yaml.Node) func(yield func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i].Value, n.Content[i+1]) {
				return
			}
		}
	}
}

func last(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// refName is the name of what a node refers to; empty if it is itself.
func refName(n *yaml.Node) string {
	for key, value := range pairs(n) {
		if key == "$ref" {
			return last(value.Value)
		}
	}
	return ""
}

func textOf(n *yaml.Node) string {
	if n.Kind == 0 {
		return ""
	}
	text, err := yaml.Marshal(n)
	if err != nil {
		return err.Error() // what was read can be written
	}
	return strings.TrimSpace(strings.ReplaceAll(string(text), "#/components/schemas/", ""))
}

// prose is a description as HTML: paragraphs, lists and code, as the file has them.
func prose(text string) template.HTML {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		items := strings.Split("\n"+paragraph, "\n- ")
		if first := strings.TrimSpace(items[0]); first != "" {
			b.WriteString("<p>" + code(first) + "</p>\n")
		}
		if len(items) > 1 {
			b.WriteString("<ul>\n")
			for _, item := range items[1:] {
				b.WriteString("<li>" + code(item) + "</li>\n")
			}
			b.WriteString("</ul>\n")
		}
	}
	return template.HTML(b.String()) //nolint:gosec // code escapes
}

func code(text string) string {
	parts := strings.Split(text, "`")
	for i, part := range parts {
		parts[i] = template.HTMLEscapeString(part)
		if i%2 == 1 && i < len(parts)-1 {
			parts[i] = "<code>" + parts[i] + "</code>"
		}
	}
	return strings.Join(parts, "")
}

func statusText(status string) string {
	n, err := strconv.Atoi(status)
	if err != nil {
		return ""
	}
	return http.StatusText(n)
}

// docsPolicy lets the page be what it is and load nothing.
var docsPolicy = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(docsStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
})

func getDocs(w http.ResponseWriter, _ *http.Request) error {
	page, err := docsPage()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(page)))
	h.Set("Content-Security-Policy", docsPolicy())
	_, _ = w.Write(page) // the client is gone: nobody is left to tell
	return nil
}
