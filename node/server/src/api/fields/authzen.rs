//! The rules of AuthZEN's requests.
//!
//! Upstream's HTTP answer tells only of the last part of a request that is wrong in itself, and of what follows it. So does
//! this, on both transports.

use meridian_proto::authzen::v1;

use super::*;

const SUBJECT_ID: &str = r"^[^:#@\s]{1,500}$";
const RESOURCE_ID: &str = r"^[^:#@\s]{1,256}$";
const MAX_SUBJECT_ID: usize = 500;
const MAX_RESOURCE_ID: usize = 256;
const MAX_PAGE: u32 = 1000;

impl Report {
    fn part(&mut self, message: &'static str, check: impl FnOnce(&mut Self)) {
        let mut part = Self::of(message);
        check(&mut part);
        if part.found.is_some() {
            self.found = part.found;
        }
    }

    fn subject(&mut self, subject: Option<&v1::Subject>) {
        let Some(subject) = subject else { return };
        self.part("Subject", |report| {
            let ok = is_plain(&subject.id, 1, MAX_SUBJECT_ID, b":#@");
            report.typed(&subject.r#type, subject.properties.as_ref(), |report| {
                report.pattern("Id", ok, SUBJECT_ID);
            });
        });
    }

    fn required_subject(&mut self, subject: Option<&v1::Subject>) {
        self.required("Subject", subject);
        self.subject(subject);
    }

    fn resource(&mut self, resource: Option<&v1::Resource>) {
        let Some(resource) = resource else { return };
        self.part("Resource", |report| {
            let ok = is_plain(&resource.id, 1, MAX_RESOURCE_ID, b":#@");
            report.typed(&resource.r#type, resource.properties.as_ref(), |report| {
                report.pattern("Id", ok, RESOURCE_ID);
            });
        });
    }

    fn required_resource(&mut self, resource: Option<&v1::Resource>) {
        self.required("Resource", resource);
        self.resource(resource);
    }

    fn action(&mut self, action: Option<&v1::Action>) {
        let Some(action) = action else { return };
        self.part("Action", |report| {
            report.pattern("Name", is_name(&action.name), NAME);
            report.properties(action.properties.as_ref());
        });
    }

    fn required_action(&mut self, action: Option<&v1::Action>) {
        self.required("Action", action);
        self.action(action);
    }

    /// What a search is for: a type, and properties.
    fn filter(
        &mut self,
        field: &'static str,
        message: &'static str,
        sought: Option<(&str, Option<&Struct>)>,
    ) {
        self.required(field, sought.as_ref());
        let Some((of_type, properties)) = sought else {
            return;
        };
        self.part(message, |report| report.typed(of_type, properties, |_| {}));
    }

    fn typed(
        &mut self,
        of_type: &str,
        properties: Option<&Struct>,
        between: impl FnOnce(&mut Self),
    ) {
        self.pattern("Type", is_name(of_type), NAME);
        between(self);
        self.properties(properties);
    }

    /// What all searches end with.
    fn search(
        mut self,
        page: Option<&v1::PageRequest>,
        context: Option<&Struct>,
    ) -> Result<(), InvalidFields> {
        self.page(page);
        self.context(context);
        self.done()
    }

    fn properties(&mut self, properties: Option<&Struct>) {
        self.nesting("Properties", properties);
    }

    fn page(&mut self, page: Option<&v1::PageRequest>) {
        let limit = page.and_then(|page| page.limit);
        if limit.is_some_and(|limit| limit > MAX_PAGE) {
            self.part("PageRequest", |report| {
                let why = format!("value must be less than or equal to {MAX_PAGE}");
                report.add(Code::ValidationError.name(), "Limit", &why);
            });
        }
    }
}

impl Fields for v1::EvaluationRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("EvaluationRequest");
        report.store_id(&self.store_id);
        report.required_subject(self.subject.as_ref());
        report.required_resource(self.resource.as_ref());
        report.required_action(self.action.as_ref());
        report.context(self.context.as_ref());
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::EvaluationsRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("EvaluationsRequest");
        report.store_id(&self.store_id);
        for item in &self.evaluations {
            report.part("EvaluationsItemRequest", |report| {
                report.subject(item.subject.as_ref());
                report.resource(item.resource.as_ref());
                report.action(item.action.as_ref());
                report.context(item.context.as_ref());
            });
        }
        let semantic = self.options.as_ref();
        let semantic = semantic.map(|options| options.evaluations_semantic);
        if semantic.is_some_and(|value| v1::EvaluationsSemantic::try_from(value).is_err()) {
            report.part("EvaluationsOptions", |report| {
                let why = "value must be one of the defined enum values";
                report.add(Code::ValidationError.name(), "EvaluationsSemantic", why);
            });
        }
        report.subject(self.subject.as_ref());
        report.action(self.action.as_ref());
        report.resource(self.resource.as_ref());
        report.context(self.context.as_ref());
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::SubjectSearchRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("SubjectSearchRequest");
        report.store_id(&self.store_id);
        report.required_resource(self.resource.as_ref());
        report.required_action(self.action.as_ref());
        let sought = self.subject.as_ref();
        let sought = sought.map(|of| (&*of.r#type, of.properties.as_ref()));
        report.filter("Subject", "SubjectFilter", sought);
        report.search(self.page.as_ref(), self.context.as_ref())
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::ResourceSearchRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ResourceSearchRequest");
        report.store_id(&self.store_id);
        report.required_subject(self.subject.as_ref());
        report.required_action(self.action.as_ref());
        let sought = self.resource.as_ref();
        let sought = sought.map(|of| (&*of.r#type, of.properties.as_ref()));
        report.filter("Resource", "ResourceFilter", sought);
        report.search(self.page.as_ref(), self.context.as_ref())
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::ActionSearchRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ActionSearchRequest");
        report.store_id(&self.store_id);
        report.required_subject(self.subject.as_ref());
        report.required_resource(self.resource.as_ref());
        report.search(self.page.as_ref(), self.context.as_ref())
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::GetConfigurationRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("GetConfigurationRequest");
        report.store_id(&self.store_id);
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}
