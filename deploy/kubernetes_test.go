package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

type manifest struct {
	service core.Service
	budget  policy.PodDisruptionBudget
	set     apps.StatefulSet
}

// kubernetes reads kubernetes.yaml into the types of the Kubernetes API. A field that they do not
// have is an error.
func kubernetes(t *testing.T) (m manifest) {
	t.Helper()
	text, err := os.ReadFile("kubernetes.yaml")
	require.NoError(t, err)
	documents := bytes.Split(text, []byte("\n---\n"))
	into := []any{&m.service, &m.budget, &m.set}
	require.Len(t, documents, len(into))
	for i, document := range documents {
		require.NoError(t, yaml.UnmarshalStrict(document, into[i]))
	}
	require.Equal(t, "v1/Service", m.service.APIVersion+"/"+m.service.Kind)
	require.Equal(t, "policy/v1/PodDisruptionBudget", m.budget.APIVersion+"/"+m.budget.Kind)
	require.Equal(t, "apps/v1/StatefulSet", m.set.APIVersion+"/"+m.set.Kind)
	require.Len(t, m.set.Spec.Template.Spec.Containers, 1)
	return m
}

func (m manifest) container() core.Container { return m.set.Spec.Template.Spec.Containers[0] }

func kubernetesProbes(t *testing.T) [][]string {
	t.Helper()
	c := kubernetes(t).container()
	return [][]string{c.StartupProbe.Exec.Command, c.ReadinessProbe.Exec.Command,
		c.LivenessProbe.Exec.Command}
}

func TestKubernetesSelectsTheServers(t *testing.T) {
	m := kubernetes(t)
	labels := m.set.Spec.Template.Labels
	require.NotEmpty(t, labels)
	require.Equal(t, labels, m.service.Spec.Selector)
	require.Equal(t, labels, m.budget.Spec.Selector.MatchLabels)
	require.Equal(t, labels, m.set.Spec.Selector.MatchLabels)
	require.Equal(t, m.service.Name, m.set.Spec.ServiceName)
	require.Equal(t, core.ClusterIPNone, m.service.Spec.ClusterIP,
		"each server has a name of its own")
}

func TestKubernetesNeverHasTwoServersOnOneHost(t *testing.T) {
	m := kubernetes(t)
	require.EqualValues(t, 3, *m.set.Spec.Replicas)
	affinity := m.set.Spec.Template.Spec.Affinity
	apart := affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	require.Len(t, apart, 1)
	require.Equal(t, core.LabelHostname, apart[0].TopologyKey)
	require.Equal(t, m.set.Spec.Template.Labels, apart[0].LabelSelector.MatchLabels)

	spread := m.set.Spec.Template.Spec.TopologySpreadConstraints
	require.Len(t, spread, 1)
	require.Equal(t, core.LabelTopologyZone, spread[0].TopologyKey)
	require.Equal(t, core.ScheduleAnyway, spread[0].WhenUnsatisfiable,
		"a cluster may have one zone only")
	require.Equal(t, m.set.Spec.Template.Labels, spread[0].LabelSelector.MatchLabels)
}

func TestKubernetesRestartsNoTwoServersWithinTheLongestTTL(t *testing.T) {
	m := kubernetes(t)
	seconds := int32(longestTTL / time.Second)
	require.Equal(t, seconds, m.set.Spec.MinReadySeconds, "updates")
	// Evictions look at readiness alone.
	require.Equal(t, seconds, m.container().ReadinessProbe.InitialDelaySeconds, "evictions")
	require.False(t, m.service.Spec.PublishNotReadyAddresses)
	require.Equal(t, 1, m.budget.Spec.MaxUnavailable.IntValue())
	require.Equal(t, apps.RollingUpdateStatefulSetStrategyType, m.set.Spec.UpdateStrategy.Type)
	require.Nil(t, m.set.Spec.UpdateStrategy.RollingUpdate, "one at a time, all of them")
}

func TestKubernetesStartsEachServerWhateverTheOthersDo(t *testing.T) {
	require.Equal(t, apps.ParallelPodManagement, kubernetes(t).set.Spec.PodManagementPolicy)
}

func TestKubernetesKeepsTheData(t *testing.T) {
	m := kubernetes(t)
	claims := m.set.Spec.VolumeClaimTemplates
	require.Len(t, claims, 1)
	require.Equal(t, []core.PersistentVolumeAccessMode{core.ReadWriteOnce},
		claims[0].Spec.AccessModes)
	data := slices.IndexFunc(m.container().VolumeMounts,
		func(v core.VolumeMount) bool { return v.Name == claims[0].Name })
	require.GreaterOrEqual(t, data, 0)
	require.Contains(t, m.container().Args, m.container().VolumeMounts[data].MountPath,
		"where the server keeps its data")
	retention := m.set.Spec.PersistentVolumeClaimRetentionPolicy
	require.Equal(t, apps.RetainPersistentVolumeClaimRetentionPolicyType, retention.WhenDeleted)
	require.Equal(t, apps.RetainPersistentVolumeClaimRetentionPolicyType, retention.WhenScaled)
}

func TestKubernetesGivesTheServerRoomAndNoRights(t *testing.T) {
	m := kubernetes(t)
	c := m.container()
	require.GreaterOrEqual(t, c.Resources.Limits.Memory().Value(), 2*maxMemory(t))
	require.Equal(t, c.Resources.Limits.Memory(), c.Resources.Requests.Memory(),
		"its memory is its own")
	require.NotContains(t, c.Resources.Limits, core.ResourceCPU,
		"a limit on the processor makes it pause")
	require.True(t, *m.set.Spec.Template.Spec.SecurityContext.RunAsNonRoot)
	require.False(t, *m.set.Spec.Template.Spec.AutomountServiceAccountToken)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.Equal(t, []core.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
}

func TestKubernetesStartsAServerThatAnswers(t *testing.T) {
	c := kubernetes(t).container()
	s := newServer(t, slices.Concat(c.Command, c.Args))
	s.start(t)
	require.NoError(t, s.as(t, "locker", s.users.locker).SetNX(soon(t), "lock:a", "mine",
		time.Minute).Err())
}

// The files that the server reads are those of this directory: kustomization.yaml makes the objects
// that the volumes name.
func TestKustomizationHasWhatTheServersRead(t *testing.T) {
	type source struct {
		Name  string   `json:"name"`
		Files []string `json:"files"`
	}
	var k struct {
		APIVersion         string   `json:"apiVersion"`
		Kind               string   `json:"kind"`
		Resources          []string `json:"resources"`
		ConfigMapGenerator []source `json:"configMapGenerator"`
		SecretGenerator    []source `json:"secretGenerator"`
	}
	text, err := os.ReadFile("kustomization.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(text, &k))
	require.Equal(t, []string{"kubernetes.yaml"}, k.Resources)

	m := kubernetes(t)
	files := map[string]source{}
	for _, v := range m.set.Spec.Template.Spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			require.Equal(t, k.ConfigMapGenerator[0].Name, v.ConfigMap.Name)
			files[v.Name] = k.ConfigMapGenerator[0]
		case v.Secret != nil:
			require.Equal(t, k.SecretGenerator[0].Name, v.Secret.SecretName)
			files[v.Name] = k.SecretGenerator[0]
		}
	}
	require.Len(t, files, 2)
	for _, mount := range m.container().VolumeMounts {
		for _, file := range files[mount.Name].Files {
			require.Contains(t, m.container().Args, filepath.Join(mount.MountPath, file))
		}
	}
}

// Where kubectl is installed, it puts everything together as it would for a cluster.
func TestKubectlPutsItTogether(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return // TestKustomizationHasWhatTheServersRead has looked at the files
	}
	dir := t.TempDir()
	makeUsers(t, dir)
	for _, name := range []string{"kustomization.yaml", "kubernetes.yaml", "redis.conf"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	out, err := exec.CommandContext(soon(t), kubectl, "kustomize", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, want := range []string{
		"kind: ConfigMap", "kind: Secret", "kind: StatefulSet", "kind: PodDisruptionBudget",
		"appendfsync always",
	} {
		require.Contains(t, string(out), want)
	}
	// A name that follows from the content, in the object and in the volume.
	require.Len(t, regexp.MustCompile(`(?m) (name|secretName): redis-lock-[0-9a-z]{10}$`).FindAll(
		out, -1), 4)
}
