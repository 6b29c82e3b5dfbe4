// Package admin is the operators' listener: health, metrics, profiles, and the groups that run in this process, which
// can be told to seek. It asks nobody who they are, so it listens on a loopback address unless an operator says
// otherwise.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"freshet/internal/kafka"
)

// Config is what the listener shows.
type Config struct {
	// Missing lists what keeps the process from serving, nothing when it is ready.
	Missing func() []string
	// Groups are the consumer groups that run in this process, by their names in Kafka.
	Groups map[string]*kafka.Group
	// Replays is the topic of what is processed for the second time, whose lag is told apart.
	Replays string
	// Corrupt is how many values in Redis this process has found corrupt.
	Corrupt func() int64
	// Metrics are others that are shown.
	Metrics []Metric
}

// Metric is a number that is asked for when somebody looks.
type Metric struct {
	Name, Help string
	Counter    bool // it only grows
	Value      func() float64
}

// Position is an offset of a partition.
type Position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// Seek is the body of a request to seek.
type Seek struct {
	Positions []Position `json:"positions"`
}

// Group is a group of this process.
type Group struct {
	Group  string  `json:"group"`
	Claims []Claim `json:"claims"`
}

// Claim is a partition that this process owns.
type Claim struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"`
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"`
	InFlight  int    `json:"in_flight"`
}

// GroupsPath is where the groups are listed; SeekPath is where one is told to seek.
const GroupsPath = "/admin/groups"

// SeekPath is the path of a group's seek.
func SeekPath(group string) string { return GroupsPath + "/" + group + "/seek" }

// Handler makes the handler.
func Handler(c Config) http.Handler {
	r := mux.NewRouter()
	r.HandleFunc("/healthz", alive).Methods(http.MethodGet)
	r.HandleFunc("/readyz", c.ready).Methods(http.MethodGet)
	r.Handle("/metrics", c.metrics()).Methods(http.MethodGet)
	r.HandleFunc(GroupsPath, c.list).Methods(http.MethodGet)
	r.HandleFunc(GroupsPath+"/{group}/seek", c.seek).Methods(http.MethodPost)
	r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	r.HandleFunc("/debug/pprof/profile", pprof.Profile)
	r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	r.PathPrefix("/debug/pprof/").HandlerFunc(pprof.Index)
	return r
}

// alive says that the process lives, and nothing more.
func alive(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func (c Config) ready(w http.ResponseWriter, _ *http.Request) {
	missing := c.Missing()
	if len(missing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, strings.Join(missing, "\n"))
		return
	}
	fmt.Fprintln(w, "ready")
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		if c.Groups[name].Idle() {
			fmt.Fprintf(w, "%s: no partition is left for this process, it waits as a spare\n", name)
		}
	}
}

func (c Config) list(w http.ResponseWriter, _ *http.Request) {
	groups := []Group{}
	for name, group := range c.Groups {
		g := Group{Group: name, Claims: []Claim{}}
		for at, lag := range group.Lag() {
			g.Claims = append(g.Claims, Claim{
				Topic: at.Topic, Partition: at.Partition, Committed: lag.Released, End: lag.End, Lag: lag.Behind,
				InFlight: lag.InFlight,
			})
		}
		slices.SortFunc(g.Claims, func(a, b Claim) int {
			if order := strings.Compare(a.Topic, b.Topic); order != 0 {
				return order
			}
			return int(a.Partition - b.Partition)
		})
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b Group) int { return strings.Compare(a.Group, b.Group) })
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(groups) // who asked has gone
}

// seek answers when the group's new positions are committed.
func (c Config) seek(w http.ResponseWriter, r *http.Request) {
	name := mux.Vars(r)["group"]
	group, runs := c.Groups[name]
	if !runs {
		http.Error(w, fmt.Sprintf("group %s does not run in this process", name), http.StatusNotFound)
		return
	}
	var seek Seek
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	body.DisallowUnknownFields()
	if err := body.Decode(&seek); err != nil || len(seek.Positions) == 0 {
		const want = `want {"positions":[{"topic":…,"partition":…,"offset":…}]}`
		http.Error(w, fmt.Sprintf("%s: %v", want, err), http.StatusBadRequest)
		return
	}
	offsets := map[kafka.TopicPartition]int64{}
	for _, p := range seek.Positions {
		offsets[kafka.TopicPartition{Topic: p.Topic, Partition: p.Partition}] = p.Offset
	}
	if err := group.SeekAndWait(r.Context(), offsets); err != nil {
		status := http.StatusConflict
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			status = http.StatusServiceUnavailable
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (c Config) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		lagCollector{c.Groups, c.Replays},
		kafka.DeadLetterCount,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_ready", Help: "1 when the process can serve, else 0.",
		}, func() float64 {
			if len(c.Missing()) == 0 {
				return 1
			}
			return 0
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "freshet_corrupt_values_total", Help: "Values in Redis that were corrupt; they are built anew.",
		}, func() float64 { return float64(c.Corrupt()) }),
	)
	for _, m := range c.Metrics {
		if m.Counter {
			registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Value))
		} else {
			registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.Value))
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// lagCollector reads the lag when it is asked.
type lagCollector struct {
	groups  map[string]*kafka.Group
	replays string // the topic
}

var (
	lagDesc = prometheus.NewDesc("freshet_group_lag_messages",
		"Messages of the partition that the group has not processed.", []string{"group", "topic", "partition"}, nil)
	replayLagDesc = prometheus.NewDesc("freshet_group_replay_lag_messages",
		"Messages that an operator has put in to be processed again, and the group has not.",
		[]string{"group", "topic", "partition"}, nil)
	removedDesc = prometheus.NewDesc("freshet_group_removed_messages_total",
		"Messages that were removed from the log before the group had processed them.", []string{"group", "topic"}, nil)
	inFlightDesc = prometheus.NewDesc("freshet_group_in_flight_messages",
		"Messages that the group has begun and not finished.", []string{"group", "topic", "partition"}, nil)
)

// Describe implements prometheus.Collector.
func (lagCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- lagDesc
	descs <- replayLagDesc
	descs <- inFlightDesc
	descs <- removedDesc
}

// Collect implements prometheus.Collector.
func (l lagCollector) Collect(metrics chan<- prometheus.Metric) {
	for name, group := range l.groups {
		for topic, count := range group.Removed() {
			metrics <- prometheus.MustNewConstMetric(removedDesc, prometheus.CounterValue, float64(count), name, topic)
		}
		for at, lag := range group.Lag() {
			partition := fmt.Sprint(at.Partition)
			desc := lagDesc
			if at.Topic == l.replays {
				desc = replayLagDesc
			}
			metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(lag.Behind),
				name, at.Topic, partition)
			metrics <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(lag.InFlight),
				name, at.Topic, partition)
		}
	}
}
