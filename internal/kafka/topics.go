package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"freshet"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TopicPolicy is what a deployment asks of all its topics.
type TopicPolicy struct {
	// Replication is the number of replicas of each partition, at least 1.
	Replication int16
	// MinInSync is how many replicas must have a record before it counts as written: from 1 to Replication.
	MinInSync int
	// KeepForever overrides every retention: records are never removed because of their age.
	KeepForever bool
}

// The settings of a topic that EnsureTopics makes and checks.
const (
	retentionSetting  = "retention.ms"
	cleanupSetting    = "cleanup.policy"
	minInSyncSetting  = "min.insync.replicas"
	uncleanSetting    = "unclean.leader.election.enable"
	lagSetting        = "min.compaction.lag.ms"
	partitionsSetting = "partitions"
	replicasSetting   = "replication factor"
)

// TopicMismatch is a setting of a topic that is not as wanted.
type TopicMismatch struct {
	Topic, Setting, Wanted, Found string
	// Remedy says what an operator can do.
	Remedy string
}

// TopicsError lists everything that EnsureTopics found wrong, by topic.
type TopicsError struct {
	Mismatches []TopicMismatch
}

func (e *TopicsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d settings of existing topics are not as wanted:", len(e.Mismatches))
	for _, m := range e.Mismatches {
		fmt.Fprintf(&b, "\n  %s: %s: want %s, found %s: %s", m.Topic, m.Setting, m.Wanted, m.Found, m.Remedy)
	}
	return b.String()
}

// EnsureTopics creates the topics of specs that are missing and checks those that exist. It changes no existing topic:
// every setting that differs is listed in one *TopicsError, with what to do. Several processes may call it at once;
// when it returns, every broker knows the topics. It returns early, with the context's error, when ctx ends. opts are
// those of ClientOptions.
func EnsureTopics(ctx context.Context, brokers []string, specs []freshet.TopicSpec, policy TopicPolicy,
	opts ...kgo.Opt) error {
	client, existing, missing, err := findTopics(ctx, brokers, specs, policy, opts)
	if err != nil {
		return err
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	var fresh []string
	for _, spec := range missing {
		created, err := create(ctx, adm, spec, policy)
		if err != nil {
			return err
		}
		fresh = append(fresh, spec.Name)
		if !created { // another process was faster
			existing = append(existing, spec)
		}
	}
	if len(fresh) > 0 {
		if err := awaitVisible(ctx, client, adm, fresh); err != nil {
			return err
		}
	}
	return check(ctx, adm, existing, policy)
}

// CheckTopics is EnsureTopics without creating anything: it names the topics that are missing.
func CheckTopics(ctx context.Context, brokers []string, specs []freshet.TopicSpec, policy TopicPolicy,
	opts ...kgo.Opt) (missing []string, err error) {
	client, existing, absent, err := findTopics(ctx, brokers, specs, policy, opts)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for _, spec := range absent {
		missing = append(missing, spec.Name)
	}
	return missing, check(ctx, kadm.NewClient(client), existing, policy)
}

// findTopics tells the topics that exist from those that do not. The caller closes the client.
func findTopics(ctx context.Context, brokers []string, specs []freshet.TopicSpec, policy TopicPolicy, opts []kgo.Opt) (
	client *kgo.Client, existing, missing []freshet.TopicSpec, err error) {
	if policy.MinInSync < 1 || policy.MinInSync > int(policy.Replication) {
		return nil, nil, nil, fmt.Errorf("topic policy: min in-sync replicas %d: want 1 to the replication of %d",
			policy.MinInSync, policy.Replication)
	}
	// The client keeps what it has heard of a topic for its minimum age, by default 5 s, "unknown" too: what another
	// process creates meanwhile would stay unknown.
	client, err = kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...),
		kgo.MetadataMinAge(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("ensure topics: connect to %v: %w", brokers, err)
	}
	opened := client
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	names := make([]string, len(specs))
	for i, spec := range specs {
		names[i] = spec.Name
	}
	found, err := kadm.NewClient(client).ListTopics(ctx, names...)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("ensure topics: list them at %v: %w", brokers, err)
	}
	for _, spec := range specs {
		err := found[spec.Name].Err
		switch {
		case err == nil && found.Has(spec.Name):
			existing = append(existing, spec)
		case err == nil, errors.Is(err, kerr.UnknownTopicOrPartition):
			missing = append(missing, spec)
		default:
			return nil, nil, nil, fmt.Errorf("ensure topic %s: look it up: %w", spec.Name, err)
		}
	}
	return client, existing, missing, nil
}

func create(ctx context.Context, adm *kadm.Client, spec freshet.TopicSpec, policy TopicPolicy) (bool, error) {
	settings := map[string]*string{}
	for name, value := range wantedSettings(spec, policy) {
		settings[name] = &value
	}
	_, err := adm.CreateTopic(ctx, spec.Partitions, policy.Replication, settings, spec.Name)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create topic %s with %d partitions and %d replicas: %w", spec.Name, spec.Partitions,
			policy.Replication, err)
	}
	return true, nil
}

func wantedSettings(spec freshet.TopicSpec, policy TopicPolicy) map[string]string {
	retention := "-1"
	// A compacted topic keeps the last record of each key whatever its age. The setting is written all the same: the
	// embedded broker applies retention to compacted topics, too.
	if !policy.KeepForever && !spec.Compacted && spec.Retention != freshet.Forever {
		retention = strconv.FormatInt(spec.Retention.Milliseconds(), 10)
	}
	cleanup := "delete"
	if spec.Compacted {
		cleanup = "compact"
	}
	settings := map[string]string{
		retentionSetting: retention,
		cleanupSetting:   cleanup,
		minInSyncSetting: strconv.Itoa(policy.MinInSync),
		uncleanSetting:   "false",
	}
	if spec.Compacted {
		settings[lagSetting] = strconv.FormatInt(freshet.MinCompactionLag.Milliseconds(), 10)
	}
	return settings
}

func check(ctx context.Context, adm *kadm.Client, specs []freshet.TopicSpec, policy TopicPolicy) error {
	if len(specs) == 0 {
		return nil
	}
	names := make([]string, len(specs))
	for i, spec := range specs {
		names[i] = spec.Name
	}
	details, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("ensure topics: list %v: %w", names, err)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return fmt.Errorf("ensure topics: describe %v: %w", names, err)
	}
	wrong := &TopicsError{}
	for _, spec := range specs {
		detail := details[spec.Name]
		if detail.Err != nil {
			return fmt.Errorf("ensure topic %s: look it up: %w", spec.Name, detail.Err)
		}
		config, err := configs.On(spec.Name, nil)
		if err = errors.Join(err, config.Err); err != nil {
			return fmt.Errorf("ensure topic %s: describe it: %w", spec.Name, err)
		}
		wrong.shape(spec, policy, detail)
		wrong.settings(spec, policy, config)
	}
	if len(wrong.Mismatches) == 0 {
		return nil
	}
	return wrong
}

// shape compares what cannot be set.
func (e *TopicsError) shape(spec freshet.TopicSpec, policy TopicPolicy, found kadm.TopicDetail) {
	if n := len(found.Partitions); n != int(spec.Partitions) {
		e.add(spec.Name, partitionsSetting, strconv.Itoa(int(spec.Partitions)), strconv.Itoa(n),
			"partitions are fixed for the life of a deployment: start with the number that was used before, "+
				"or with another prefix")
	}
	for _, partition := range found.Partitions.Sorted() {
		if n := len(partition.Replicas); n != int(policy.Replication) {
			e.add(spec.Name, replicasSetting, strconv.Itoa(int(policy.Replication)), strconv.Itoa(n),
				"reassign the partitions with kafka-reassign-partitions.sh, or set the deployment's replication to this")
			break
		}
	}
}

// settings compares what can be set.
func (e *TopicsError) settings(spec freshet.TopicSpec, policy TopicPolicy, found kadm.ResourceConfig) {
	values := map[string]string{}
	for _, c := range found.Configs {
		values[c.Key] = c.MaybeValue()
	}
	wanted := wantedSettings(spec, policy)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		value, known := values[name]
		if !known && (name == uncleanSetting || name == lagSetting) {
			continue // the embedded broker, which one process has for itself, knows neither
		}
		if !known {
			value = "nothing"
		}
		if value != wanted[name] {
			e.add(spec.Name, name, explain(name, wanted[name]), explain(name, value), fmt.Sprintf(
				"run kafka-configs.sh --alter --topic %s --add-config %s=%s", spec.Name, name, wanted[name]))
		}
	}
}

func (e *TopicsError) add(topic, setting, wanted, found, remedy string) {
	e.Mismatches = append(e.Mismatches, TopicMismatch{topic, setting, wanted, found, remedy})
}

// explain adds to a retention what it is in words.
func explain(setting, value string) string {
	ms, err := strconv.ParseInt(value, 10, 64)
	switch {
	case setting != retentionSetting && setting != lagSetting || err != nil:
		return value
	case ms < 0:
		return value + " (forever)"
	}
	return fmt.Sprintf("%s (%s)", value, time.Duration(ms)*time.Millisecond)
}
