{{- define "lamplighter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "lamplighter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "lamplighter.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lamplighter.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "lamplighter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lamplighter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "lamplighter.labels" -}}
{{ include "lamplighter.selectorLabels" . }}
app.kubernetes.io/part-of: lamplighter
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* The test is no operator: with the operator's labels the metrics Service would select it. */}}
{{- define "lamplighter.checkLabels" -}}
app.kubernetes.io/name: {{ include "lamplighter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: check
app.kubernetes.io/part-of: lamplighter
{{- end }}

{{- define "lamplighter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "lamplighter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "lamplighter.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end }}

{{- define "lamplighter.workerImage" -}}
{{- printf "%s:%s" .Values.worker.image.repository (default .Chart.AppVersion .Values.worker.image.tag) -}}
{{- end }}

{{- define "lamplighter.workerCudaImage" -}}
{{- with ((.Values.worker.cuda).image).repository -}}
{{- printf "%s:%s" . (default $.Chart.AppVersion $.Values.worker.cuda.image.tag) -}}
{{- end -}}
{{- end }}

{{- define "lamplighter.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "lamplighter.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}
